//! The one table of commands and flags: `help`, `completions` and `man` are made from it.
//! Knows nothing of argv: `cli.rs` reads the command line by this table.

/// One command with everything that its help says and its parser accepts.
pub struct Spec {
    /// The words after `prodex`; empty for the program itself.
    pub path: &'static [&'static str],
    pub about: &'static str,
    pub arguments: &'static [Argument],
    pub flags: &'static [Flag],
    /// Own flags are read up to the first token that is not one of them; the rest is codex's, verbatim (spec S-10).
    pub passthrough: bool,
    /// Under the options, where one line does not say enough: paragraphs with an empty line between two.
    pub more: &'static str,
    /// Command lines, and what each is for.
    pub examples: &'static [(&'static str, &'static str)],
    /// For programs: shown nowhere.
    pub hidden: bool,
}

/// What a shell may offer for a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offers {
    Nothing,
    Profiles,
    Files,
    Directories,
    Shells,
}

pub struct Argument {
    /// As usage shows it: `NAME`, `[NAME]`, `[CODEX_ARG]...`.
    pub name: &'static str,
    pub about: &'static str,
    pub offers: Offers,
}

pub struct Flag {
    pub short: Option<char>,
    pub long: &'static str,
    /// Name of the value in usage; none for a switch.
    pub value: Option<&'static str>,
    pub about: &'static str,
    /// Accepted and not shown.
    pub hidden: bool,
    pub offers: Offers,
}

const fn switch(long: &'static str, about: &'static str) -> Flag {
    Flag { short: None, long, value: None, about, hidden: false, offers: Offers::Nothing }
}

const fn option(long: &'static str, value: &'static str, about: &'static str) -> Flag {
    Flag { short: None, long, value: Some(value), about, hidden: false, offers: Offers::Nothing }
}

const fn directory(long: &'static str, about: &'static str) -> Flag {
    Flag { offers: Offers::Directories, ..option(long, "PATH", about) }
}

const fn profile(about: &'static str) -> Flag {
    Flag { short: Some('p'), offers: Offers::Profiles, ..option("profile", "NAME", about) }
}

const fn argument(name: &'static str, about: &'static str) -> Argument {
    Argument { name, about, offers: Offers::Nothing }
}

/// The name of a profile that there is.
const fn known(name: &'static str, about: &'static str) -> Argument {
    Argument { name, about, offers: Offers::Profiles }
}

const fn file(about: &'static str) -> Argument {
    Argument { offers: Offers::Files, ..argument("FILE", about) }
}

/// What goes to codex.
const fn rest(about: &'static str) -> Argument {
    Argument { offers: Offers::Files, ..argument("[CODEX_ARG]...", about) }
}

/// Every command takes it.
pub const HELP: Flag = Flag { short: Some('h'), ..switch("help", "Print this help and exit") };

/// The program itself takes it.
const VERSION: Flag = Flag { short: Some('V'), ..switch("version", "Print the version and exit") };

const BASE_URL: Flag = option(
    "base-url",
    "URL",
    "Backend to talk to, instead of CODEX_CHATGPT_BASE_URL or https://chatgpt.com/backend-api",
);

const JSON: Flag = switch("json", "Print one JSON document instead");

const fn spec(path: &'static [&'static str], about: &'static str) -> Spec {
    Spec { path, about, arguments: &[], flags: &[], passthrough: false, more: "", examples: &[], hidden: false }
}

/// In the order in which help lists them; a group stands before its members.
pub const COMMANDS: &[Spec] = &[
    Spec {
        flags: &[VERSION],
        examples: &[
            ("prodex profile import-current main", "The login that codex has now becomes a profile"),
            ("prodex login", "So does another account's"),
            ("prodex run", "Codex, with whichever of them has quota left"),
        ],
        ..spec(&[], "Manage multiple Codex profiles backed by isolated CODEX_HOME directories.")
    },
    spec(&["profile"], "Add, list, choose and remove profiles"),
    Spec {
        arguments: &[argument("NAME", "Name of the new profile: letters, numbers, '.', '_' or '-'")],
        flags: &[
            directory(
                "codex-home",
                "Register this CODEX_HOME where it stands, as an external profile; made when it is not there",
            ),
            directory("copy-from", "Copy account and configuration from this CODEX_HOME"),
            switch("copy-current", "Copy account and configuration from ~/.codex"),
            switch("activate", "Make the new profile the active one"),
        ],
        more: "Without a source the new managed home has a copy of the configuration in ~/.codex and no login. The first \
               profile becomes active by itself.",
        examples: &[
            ("prodex profile add work && prodex login -p work", "A profile whose name you choose"),
            ("prodex profile add ci --codex-home /srv/codex", "A home that stays where and as it is"),
        ],
        ..spec(&["profile", "add"], "Add a profile: an empty home, a copy, or a CODEX_HOME elsewhere")
    },
    Spec {
        arguments: &[argument("[NAME]", "Name of the new profile (default: default)")],
        more: "History and sessions are linked, not copied. ~/.codex and the profile then hold the same refresh token, \
               which is good for one refresh: log in again in one of them, or use ~/.codex no more.",
        ..spec(&["profile", "import-current"], "Copy the login of ~/.codex into a new profile and make it active")
    },
    Spec {
        flags: &[JSON],
        more: "Shows what is known of each quota, and asks nobody: `prodex quota --all` does.",
        ..spec(&["profile", "list"], "List all profiles with account, path and known quota")
    },
    Spec {
        arguments: &[known("NAME", "Profile to remove")],
        flags: &[switch("delete-home", "Delete its managed CODEX_HOME too, login included")],
        more: "A home that stays in ~/.prodex/profiles is taken in again, with its login, by `prodex profile add NAME`. \
               History stays in ~/.codex either way.",
        ..spec(&["profile", "remove"], "Forget a profile; its home stays unless you say otherwise")
    },
    Spec {
        arguments: &[known("[NAME]", "Profile to make active")],
        flags: &[profile("The same, as a flag")],
        ..spec(&["profile", "use"], "Make a profile the active one")
    },
    Spec {
        arguments: &[known("NAME", "Profile to take out")],
        more: "It keeps its login, and works where it is named: `-p NAME`. `profile enable` takes it in again.",
        ..spec(&["profile", "disable"], "Take a profile out of rotation")
    },
    Spec {
        arguments: &[known("NAME", "Profile to take in")],
        ..spec(&["profile", "enable"], "Take a disabled profile into rotation again")
    },
    Spec {
        arguments: &[
            known("NAME", "Profile to keep something back of"),
            argument("PERCENT", "Percent of each window, 0 to 99; 0 ends it"),
        ],
        more: "Fresh work leaves the profile when so much is left. What belongs to it goes on there, and `-p NAME` may use \
               all of it.",
        examples: &[("prodex profile reserve private 50", "Half of each window stays for other uses of that account")],
        ..spec(&["profile", "reserve"], "Keep a part of a profile's quota back")
    },
    Spec {
        arguments: &[file("File to make, - for stdout"), known("[NAME]...", "Profiles to put into it (default: all)")],
        more: "Login, config.toml, AGENTS.md, prompts, rules, skills and agents of each profile; no history. The file holds \
               credentials, unencrypted.",
        examples: &[("prodex profile export - | age -p > FILE", "Encrypted, with a passphrase")],
        ..spec(&["profile", "export"], "Write profiles, logins included, into one file for another machine")
    },
    Spec {
        arguments: &[
            file("File that `profile export` made, - for stdin"),
            argument("[NAME]...", "Profiles to take from it (default: all)"),
        ],
        flags: &[option("as", "NAME", "Give the one profile that is taken this name")],
        more: "Replaces nothing: a name or an account that is here already is refused.",
        examples: &[("age -d FILE | prodex profile import -", "What was encrypted")],
        ..spec(&["profile", "import"], "Make profiles from a file of `profile export`")
    },
    Spec {
        arguments: &[known("[NAME]", "Profile to make active")],
        flags: &[profile("The same, as a flag")],
        ..spec(&["use"], "Make a profile the active one")
    },
    Spec {
        flags: &[JSON],
        more: "Shows what is known of its quota, and asks nobody: `prodex quota` does.",
        ..spec(&["current"], "Show the active profile")
    },
    Spec {
        arguments: &[rest("Passed to `codex login` unchanged, e.g. --device-auth or status")],
        flags: &[profile("Log in to this existing profile, whatever the account")],
        passthrough: true,
        more: "Without -p the account decides: the profile that has it is updated, a new account becomes a new profile \
               named after its e-mail. That profile becomes active. `login status` asks about the active profile. An API \
               key needs -p: it has no e-mail.",
        examples: &[
            ("prodex login --device-auth", "On a server: the browser is elsewhere"),
            ("prodex login -p work", "Again in that profile, whatever the account"),
        ],
        ..spec(&["login"], "Log in with `codex login`; a new account becomes a profile")
    },
    Spec {
        arguments: &[known("[NAME]", "Profile to log out (default: the active one)")],
        flags: &[profile("The same, as a flag")],
        ..spec(&["logout"], "Log a profile out with `codex logout`")
    },
    Spec {
        flags: &[
            profile("Show this profile instead of the active one"),
            switch("all", "Show every profile in one table"),
            switch("detail", "With --all: show when each window resets"),
            switch("raw", "Print the backend's own answer as JSON"),
            JSON,
            switch("line", "Print one line of what is known, for a status bar; asks nobody"),
            switch(
                "once",
                "Print one snapshot and end, as into a file or a pipe; without it a terminal gets a live view",
            ),
            BASE_URL,
            Flag { hidden: true, ..switch("watch", "Show a live view (the default)") },
        ],
        more: "Live, each account is asked at most every 30 seconds, by all prodex processes together. Arrow keys scroll, \
               q and Ctrl+C quit. Colours follow NO_COLOR, CLICOLOR_FORCE and TERM, line art the locale.\n\n\
               Exit code 1 where the account cannot be read; with --all that is shown in its row, and only --raw ends with 1.",
        examples: &[
            ("prodex quota --all", "All accounts"),
            ("prodex quota --all --json | jq -e '.pool.ready > 0'", "A job that ends when no account can work"),
            ("set -g status-right '#(prodex quota --line)'", "The status bar of tmux"),
        ],
        ..spec(&["quota"], "Show what is left of the 5h, weekly and monthly quotas")
    },
    Spec {
        arguments: &[rest("Passed to codex unchanged; a session id alone resumes that session")],
        flags: &[
            profile("Run with this profile instead of the active one"),
            switch("auto-rotate", "Move to another profile when the quota is used up (the default)"),
            switch("no-auto-rotate", "Stay with the profile; stop when its quota is used up"),
            switch("skip-quota-check", "Start codex without asking for the quota first"),
            BASE_URL,
        ],
        passthrough: true,
        more: "Options of prodex come first: from the first word that is not one of them, everything goes to codex. The \
               exit code is codex's, or 2 where the quota check stopped the run.",
        examples: &[
            ("prodex run", "Codex as you know it"),
            ("prodex run exec \"fix the test\"", "Without a terminal; stdin and stdout are passed through"),
            ("prodex run -p work --no-auto-rotate", "With this account and no other"),
        ],
        ..spec(&["run"], "Run codex with a profile, and with the others when its quota is used up")
    },
    spec(&["session"], "Find sessions of codex again, whichever profile they were begun under"),
    Spec {
        flags: &[Flag { short: Some('n'), ..option("count", "COUNT", "List at most this many (default: 15)") }, JSON],
        more: "The last used session comes first.",
        examples: &[
            ("prodex run SESSION-ID", "Resume one"),
            ("prodex run resume --last", "Resume the last one of this directory"),
        ],
        ..spec(&["session", "list"], "List the sessions of the shared history with time, profile, directory and words")
    },
    Spec {
        flags: &[BASE_URL],
        more: "The same function decides where `run` begins and where the proxy moves to. Per profile: what is left of the \
               longest window and the time until its reset, the pace (above x1: more is left than time to spend it in), the \
               short window, what is in progress, and the score.",
        ..spec(&["why"], "Show which profile takes fresh work now, and why")
    },
    Spec {
        flags: &[
            switch("quota", "Ask the backend for the quota of every profile, too"),
            switch("runtime", "Read the log of the last run: what happened, and what that means"),
            JSON,
            switch("fix", "Put right what needs no decision: modes, links, leftovers; say each step"),
        ],
        more: "Without --quota, --runtime and --fix codex is started once, with a made-up login and no way out, to see that \
               its model traffic comes to prodex. Takes about a second, at most 20. Nothing of yours is changed; --fix \
               deletes nothing but what an interrupted prodex left, and moves, as a run does, what stands in the place of a \
               link to the shared history: there, or aside.",
        ..spec(&["doctor"], "Check codex, profiles and settings; say what is wrong and what to type next")
    },
    Spec {
        arguments: &[argument("[COMMAND]...", "Command to explain")],
        ..spec(&["help"], "Print the help of a command")
    },
    Spec {
        arguments: &[Argument { offers: Offers::Shells, ..argument("SHELL", "bash, zsh or fish") }],
        examples: &[
            ("prodex completions bash >~/.local/share/bash-completion/completions/prodex", "bash"),
            ("prodex completions zsh >DIRECTORY/_prodex", "zsh: a directory that is in $fpath before compinit runs"),
            ("prodex completions fish >~/.config/fish/completions/prodex.fish", "fish"),
        ],
        ..spec(&["completions"], "Print what a shell needs to complete prodex's words and profile names")
    },
    Spec {
        examples: &[
            ("prodex man | man -l -", "Read it"),
            ("prodex man >~/.local/share/man/man1/prodex.1", "For `man prodex`"),
        ],
        ..spec(&["man"], "Print the manual page")
    },
    Spec { hidden: true, ..spec(&["__profiles"], "Print the names of all profiles, a line each, for completions") },
];

/// The command with exactly these words.
pub fn find(path: &[&str]) -> Option<&'static Spec> {
    COMMANDS.iter().find(|spec| spec.path == path)
}

/// The commands one word below `path`.
pub fn children<'a>(path: &'a [&'a str]) -> impl Iterator<Item = &'static Spec> + 'a {
    COMMANDS.iter().filter(move |spec| spec.path.len() == path.len() + 1 && spec.path.starts_with(path))
}

impl Spec {
    /// `prodex profile add`.
    pub fn line(&self) -> String {
        ["prodex"].iter().chain(self.path).copied().collect::<Vec<_>>().join(" ")
    }

    pub fn is_group(&self) -> bool {
        children(self.path).next().is_some()
    }

    /// Own flags and `--help`.
    pub fn all_flags(&self) -> impl Iterator<Item = &'static Flag> {
        self.flags.iter().chain(std::iter::once(&HELP))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_flag_and_argument_has_one_line() {
        for spec in COMMANDS {
            let abouts = spec.all_flags().map(|flag| flag.about).chain(spec.arguments.iter().map(|a| a.about));
            for about in abouts.chain([spec.about]) {
                assert!(!about.is_empty() && !about.contains('\n'), "{}: {about:?}", spec.line());
            }
            assert!(spec.examples.iter().all(|(line, what)| line.contains("prodex ") && !what.is_empty()));
            assert!(spec.path.len() < 2 || find(&spec.path[..1]).is_some_and(Spec::is_group));
        }
    }

    #[test]
    fn help_shows_the_table() {
        let help = find(&["run"]).unwrap().help();
        assert!(help.contains("Usage: prodex run [OPTIONS] [CODEX_ARG]...\n"), "{help}");
        assert!(help.contains("  -p, --profile NAME      Run with"), "{help}");
        assert!(help.contains("\n      --no-auto-rotate"), "{help}");
        let top = find(&[]).unwrap().help();
        for word in ["profile", "use", "current", "login", "logout", "quota", "run", "session", "doctor", "help"] {
            assert!(top.contains(&format!("\n  {word} ")), "{top}");
        }
        assert!(!top.contains("\n  import-current"));
        assert!(!find(&["quota"]).unwrap().help().contains("--watch"));
    }
}
