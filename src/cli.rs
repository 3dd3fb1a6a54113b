//! argv -> Command (spec S-10 to S-13). Pure: knows no file, no environment and no profile.
//! The words and flags are those of `table`; this file gives them their meaning.

pub mod completions;
mod help;
pub mod man;
pub mod table;
mod wrong;

use crate::error::Error;
use std::ffi::{OsStr, OsString};
use table::{Flag, Spec};
use wrong::{shown, unknown_command, unknown_flag, wrong};

/// Sessions that are listed when nobody says how many: a screenful.
const SESSIONS: usize = 15;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Print this help text on stdout, exit 0 (or on stderr with exit 2: `Command::Bare`).
    Help(String),
    /// No command (or `profile` alone): help on stderr, exit 2.
    Bare(String),
    Version,
    ProfileAdd(ProfileAdd),
    /// NAME, default "default".
    ProfileImportCurrent {
        name: String,
    },
    ProfileList {
        json: bool,
    },
    ProfileRemove {
        name: String,
        delete_home: bool,
    },
    ProfileSwitch {
        name: String,
        disabled: bool,
    },
    /// Below 100.
    ProfileReserve {
        name: String,
        percent: u8,
    },
    ProfileExport {
        file: OsString,
        names: Vec<String>,
    },
    ProfileImport(ProfileImport),
    /// `use NAME`, `use -p NAME`, `profile use NAME`, `profile use -p NAME`.
    Use {
        name: String,
    },
    Current {
        json: bool,
    },
    Quota(Quota),
    Completions {
        shell: completions::Shell,
    },
    Man,
    /// The names of all profiles, for completions.
    Names,
    Why {
        base_url: Option<String>,
    },
    Doctor(Doctor),
    Run(Run),
    SessionList {
        count: usize,
        json: bool,
    },
    Login {
        profile: Option<String>,
        args: Vec<OsString>,
    },
    Logout {
        profile: Option<String>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProfileAdd {
    pub name: String,
    pub codex_home: Option<OsString>,
    pub copy_from: Option<OsString>,
    pub copy_current: bool,
    pub activate: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProfileImport {
    pub file: OsString,
    pub names: Vec<String>,
    pub rename: Option<String>,
}

#[expect(clippy::struct_excessive_bools, reason = "one per switch of the command line")]
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Quota {
    pub profile: Option<String>,
    pub all: bool,
    pub detail: bool,
    pub raw: bool,
    pub once: bool,
    pub json: bool,
    pub line: bool,
    pub base_url: Option<String>,
}

#[expect(clippy::struct_excessive_bools, reason = "one per switch of the command line")]
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Doctor {
    pub quota: bool,
    pub runtime: bool,
    pub json: bool,
    pub fix: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Run {
    pub profile: Option<String>,
    pub no_auto_rotate: bool,
    pub skip_quota_check: bool,
    pub base_url: Option<String>,
    pub args: Vec<OsString>,
}

/// Reads the arguments after the program's name.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, Error> {
    let args: Vec<OsString> = args.into_iter().collect();
    let mut parser = lexopt::Parser::from_args(args);
    let mut path: Vec<&'static str> = Vec::new();
    let spec = loop {
        let spec = table::find(&path).ok_or_else(|| Error::usage("no such command"))?;
        if !spec.is_group() {
            break spec;
        }
        match parser.next().map_err(|error| describe(&error, spec))? {
            None => return Ok(Command::Bare(spec.help())),
            Some(lexopt::Arg::Long("help") | lexopt::Arg::Short('h')) => return Ok(Command::Help(spec.help())),
            Some(lexopt::Arg::Long("version") | lexopt::Arg::Short('V')) if path.is_empty() => {
                return Ok(Command::Version);
            }
            Some(lexopt::Arg::Value(word)) if word == "help" => return help(&path, &rest(&mut parser)),
            Some(lexopt::Arg::Value(word)) => path.push(child(spec, &word)?),
            Some(lexopt::Arg::Long(name)) => return Err(unknown_flag(spec, &format!("--{name}"))),
            Some(lexopt::Arg::Short(name)) => return Err(unknown_flag(spec, &format!("-{name}"))),
        }
    };
    let Some(given) = read(spec, &mut parser)? else { return Ok(Command::Help(spec.help())) };
    meaning(spec, given)
}

/// What was typed after the words of a command.
#[derive(Default)]
struct Given {
    flags: Vec<(&'static str, OsString)>,
    words: Vec<OsString>,
}

impl Given {
    fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|(long, _)| *long == flag)
    }

    fn value(&mut self, flag: &str) -> Option<OsString> {
        let at = self.flags.iter().position(|(long, _)| *long == flag)?;
        Some(self.flags.swap_remove(at).1)
    }

    fn text(&mut self, flag: &str) -> Result<Option<String>, Error> {
        self.value(flag).map(|value| text(value, &format!("the value of --{flag}"))).transpose()
    }

    /// A profile named by `-p` or by position, not both.
    fn profile(&mut self, spec: &Spec) -> Result<Option<String>, Error> {
        let flag = self.text("profile")?;
        match (flag, self.words.pop()) {
            (Some(_), Some(_)) => Err(wrong("a profile is named twice", spec)),
            (Some(name), None) => Ok(Some(name)),
            (None, word) => word.map(|word| text(word, "the profile name")).transpose(),
        }
    }

    fn file_and_names(&mut self) -> Result<(OsString, Vec<String>), Error> {
        let mut words = std::mem::take(&mut self.words).into_iter();
        let file = words.next().unwrap_or_default();
        Ok((file, words.map(|word| text(word, "the profile name")).collect::<Result<_, _>>()?))
    }

    fn conflict(&self, one: &str, other: &str, spec: &Spec) -> Result<(), Error> {
        if self.has(one) && self.has(other) {
            return Err(wrong(&format!("--{one} and --{other} exclude each other"), spec));
        }
        Ok(())
    }
}

/// Reads flags and words by the table; `None` when help is asked for.
fn read(spec: &'static Spec, parser: &mut lexopt::Parser) -> Result<Option<Given>, Error> {
    let mut given = Given::default();
    loop {
        if spec.passthrough && !own_flag_next(spec, parser) {
            given.words = rest(parser);
            if given.words.first().is_some_and(|word| word == "--") {
                given.words.remove(0);
            }
            return Ok(Some(given));
        }
        let flag = match parser.next().map_err(|error| describe(&error, spec))? {
            None => break,
            Some(lexopt::Arg::Value(word)) => {
                given.words.push(word);
                continue;
            }
            Some(lexopt::Arg::Long(name)) => {
                let flag = spec.all_flags().find(|flag| flag.long == name);
                flag.ok_or_else(|| unknown_flag(spec, &format!("--{name}")))?
            }
            Some(lexopt::Arg::Short(name)) => {
                let flag = spec.all_flags().find(|flag| flag.short == Some(name));
                flag.ok_or_else(|| unknown_flag(spec, &format!("-{name}")))?
            }
        };
        if flag.long == table::HELP.long {
            return Ok(None);
        }
        if given.has(flag.long) {
            return Err(wrong(&format!("--{} is given twice", flag.long), spec));
        }
        let value = if flag.value.is_some() { value(flag, parser, spec)? } else { OsString::new() };
        given.flags.push((flag.long, value));
    }
    let many = spec.arguments.last().is_some_and(|last| last.name.ends_with("..."));
    if given.words.len() > spec.arguments.len() && !many {
        let extra = given.words.last().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
        return Err(wrong(&format!("unexpected argument '{}'", shown(&extra)), spec));
    }
    let missing = spec.arguments.get(given.words.len()..).and_then(<[_]>::first);
    if let Some(missing) = missing.filter(|argument| !argument.name.starts_with('[')) {
        return Err(wrong(&format!("{} is missing", missing.name), spec));
    }
    Ok(Some(given))
}

/// Whether the next token is a flag of this command: what is not starts the arguments of codex. A switch must stand
/// alone (`-hx` is codex's), an option may carry its value (`-pNAME`, `-p=NAME`, `--profile=NAME`).
fn own_flag_next(spec: &'static Spec, parser: &mut lexopt::Parser) -> bool {
    // Short options of a cluster are left: we are inside a token that was ours.
    let Some(raw) = parser.try_raw_args() else { return true };
    let Some(token) = raw.peek().map(OsStr::to_string_lossy) else { return false };
    if let Some(long) = token.strip_prefix("--") {
        let name = long.split_once('=').map_or(long, |(name, _)| name);
        return spec.all_flags().any(|flag| flag.long == name);
    }
    let Some(short) = token.strip_prefix('-') else { return false };
    let mut chars = short.chars();
    let Some(name) = chars.next() else { return false };
    let alone = chars.next().is_none();
    spec.all_flags().any(|flag| flag.short == Some(name) && (alone || flag.value.is_some()))
}

/// The value of an option. A separate token that looks like a flag is a forgotten value, not a value.
fn value(flag: &Flag, parser: &mut lexopt::Parser, spec: &Spec) -> Result<OsString, Error> {
    if let Some(value) = parser.optional_value() {
        return Ok(value);
    }
    let looks_like_flag = |token: &OsStr| token.len() > 1 && token.as_encoded_bytes().starts_with(b"-");
    let next = parser.try_raw_args().and_then(|mut raw| raw.next_if(|token| !looks_like_flag(token)));
    next.ok_or_else(|| wrong(&format!("--{} needs a value", flag.long), spec))
}

fn rest(parser: &mut lexopt::Parser) -> Vec<OsString> {
    parser.try_raw_args().map(Iterator::collect).unwrap_or_default()
}

fn meaning(spec: &'static Spec, mut given: Given) -> Result<Command, Error> {
    Ok(match spec.path {
        ["profile", "add"] => {
            given.conflict("codex-home", "copy-from", spec)?;
            given.conflict("codex-home", "copy-current", spec)?;
            given.conflict("copy-from", "copy-current", spec)?;
            Command::ProfileAdd(ProfileAdd {
                name: given.profile(spec)?.unwrap_or_default(),
                codex_home: given.value("codex-home"),
                copy_from: given.value("copy-from"),
                copy_current: given.has("copy-current"),
                activate: given.has("activate"),
            })
        }
        ["profile", "import-current"] => {
            Command::ProfileImportCurrent { name: given.profile(spec)?.unwrap_or_else(|| "default".to_owned()) }
        }
        ["profile", "list"] => Command::ProfileList { json: given.has("json") },
        ["profile", "remove"] => Command::ProfileRemove {
            delete_home: given.has("delete-home"),
            name: given.profile(spec)?.unwrap_or_default(),
        },
        ["profile", "export"] => {
            let (file, names) = given.file_and_names()?;
            Command::ProfileExport { file, names }
        }
        ["profile", "import"] => {
            let (file, names) = given.file_and_names()?;
            Command::ProfileImport(ProfileImport { file, names, rename: given.text("as")? })
        }
        ["profile", verb @ ("disable" | "enable")] => {
            Command::ProfileSwitch { disabled: *verb == "disable", name: given.profile(spec)?.unwrap_or_default() }
        }
        ["profile", "reserve"] => {
            let percent = text(given.words.pop().unwrap_or_default(), "PERCENT")?;
            let digits = percent.strip_suffix('%').unwrap_or(&percent);
            let Some(percent) = digits.parse().ok().filter(|percent| *percent <= 99_u8) else {
                return Err(wrong(&format!("'{}' is not a percentage from 0 to 99", shown(&percent)), spec));
            };
            Command::ProfileReserve { percent, name: given.profile(spec)?.unwrap_or_default() }
        }
        ["use"] | ["profile", "use"] => match given.profile(spec)? {
            Some(name) => Command::Use { name },
            None => return Err(wrong("NAME is missing", spec)),
        },
        ["current"] => Command::Current { json: given.has("json") },
        ["login"] => Command::Login { profile: given.text("profile")?, args: given.words },
        ["logout"] => Command::Logout { profile: given.profile(spec)? },
        ["quota"] => {
            given.conflict("once", "watch", spec)?;
            for (one, other) in
                [("json", "raw"), ("line", "raw"), ("line", "json"), ("json", "detail"), ("json", "watch")]
            {
                given.conflict(one, other, spec)?;
            }
            Command::Quota(Quota {
                profile: given.text("profile")?,
                all: given.has("all"),
                detail: given.has("detail"),
                raw: given.has("raw"),
                once: given.has("once"),
                json: given.has("json"),
                line: given.has("line"),
                base_url: given.text("base-url")?,
            })
        }
        ["completions"] => {
            let shell = given.words.pop().unwrap_or_default();
            let known = completions::Shell::of(&shell.to_string_lossy());
            Command::Completions {
                shell: known.ok_or_else(|| {
                    wrong(&format!("'{}' is not one of bash, zsh and fish", shown(&shell.to_string_lossy())), spec)
                })?,
            }
        }
        ["man"] => Command::Man,
        ["__profiles"] => Command::Names,
        ["why"] => Command::Why { base_url: given.text("base-url")? },
        ["doctor"] => {
            for other in ["quota", "runtime", "json"] {
                given.conflict("fix", other, spec)?;
            }
            let [quota, runtime, json, fix] = ["quota", "runtime", "json", "fix"].map(|flag| given.has(flag));
            Command::Doctor(Doctor { quota, runtime, json, fix })
        }
        ["run"] => {
            given.conflict("auto-rotate", "no-auto-rotate", spec)?;
            let mut args = std::mem::take(&mut given.words);
            if let [lone] = args.as_slice()
                && is_session_id(lone)
            {
                args.insert(0, "resume".into());
            }
            Command::Run(Run {
                profile: given.text("profile")?,
                no_auto_rotate: given.has("no-auto-rotate"),
                skip_quota_check: given.has("skip-quota-check"),
                base_url: given.text("base-url")?,
                args,
            })
        }
        ["session", "list"] => {
            let count = given.text("count")?.map_or(Ok(SESSIONS), |text| {
                let number = text.parse().ok().filter(|number| *number > 0);
                number.ok_or_else(|| wrong(&format!("'{}' is no number of sessions", shown(&text)), spec))
            });
            Command::SessionList { count: count?, json: given.has("json") }
        }
        _ => return Err(unknown_command(&spec.line(), &[])),
    })
}

/// `prodex help profile add`.
fn help(path: &[&'static str], words: &[OsString]) -> Result<Command, Error> {
    let mut path = path.to_vec();
    for word in words {
        if word == "--help" || word == "-h" {
            continue;
        }
        let spec = table::find(&path).ok_or_else(|| Error::usage("no such command"))?;
        path.push(child(spec, word)?);
    }
    let text = table::find(&path).map(Spec::help).unwrap_or_default();
    Ok(Command::Help(text))
}

fn child(group: &'static Spec, word: &OsStr) -> Result<&'static str, Error> {
    let words: Vec<&'static str> = table::children(group.path).filter_map(|spec| spec.path.last().copied()).collect();
    let found = words.iter().find(|known| word == **known);
    found.copied().ok_or_else(|| {
        let prefix = if group.path.is_empty() { String::new() } else { group.path.join(" ") + " " };
        // `prodex list` is looked for as `prodex profile list`, too.
        let below = table::COMMANDS.iter().filter(|spec| spec.path.len() > group.path.len() + 1);
        let below = below.filter(|spec| spec.path.starts_with(group.path));
        let candidates = words.iter().map(|known| (*known, format!("{prefix}{known}")));
        let candidates = candidates.chain(below.map(|spec| (spec.path.last().map_or("", |w| w), spec.path.join(" "))));
        unknown_command(&format!("{prefix}{}", word.to_string_lossy()), &candidates.collect::<Vec<_>>())
    })
}

fn describe(error: &lexopt::Error, spec: &'static Spec) -> Error {
    match error {
        lexopt::Error::UnexpectedValue { option, .. } => wrong(&format!("{option} takes no value"), spec),
        lexopt::Error::MissingValue { option: Some(option) } => wrong(&format!("{option} needs a value"), spec),
        other => wrong(&other.to_string(), spec),
    }
}

fn text(value: OsString, what: &str) -> Result<String, Error> {
    value.into_string().map_err(|_| Error::usage(format!("{what} is not valid UTF-8")))
}

/// A UUID alone is a session of codex.
fn is_session_id(word: &OsStr) -> bool {
    let Some(word) = word.to_str() else { return false };
    let groups: Vec<&str> = word.split('-').collect();
    groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12])
        && groups.iter().all(|group| group.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
#[path = "cli/tests.rs"]
mod tests;
