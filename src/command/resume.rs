//! `resume --last` and `fork --last` for codex: codex finds the last thread of the account that it runs under, prodex the
//! last one of the history, by codex's other rules (directory, kind, provider), and names it by its id (spec S-33).
//! The rule for the arguments is pure; what is no plain form of them stays codex's own business.

use crate::profile::rollout::Origin;
use crate::profile::threads::{Thread, Threads};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The provider of every run that prodex stands behind.
const PROVIDER: &str = "openai";

/// Options of codex whose value may be the next argument.
const VALUED: &[&str] = &[
    "-c",
    "--config",
    "-m",
    "--model",
    "-p",
    "--profile",
    "-s",
    "--sandbox",
    "-a",
    "--ask-for-approval",
    "-o",
    "--output-last-message",
    "-i",
    "--image",
    "-C",
    "--cd",
    "--add-dir",
    "--color",
    "--cyber-access-program",
    "--disable",
    "--enable",
    "--local-provider",
    "--output-schema",
    "--thread-source",
];

/// What `--last` asks for.
#[expect(clippy::struct_excessive_bools, reason = "one per switch of codex")]
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wish {
    /// Where the word `resume` or `fork` stands.
    word: usize,
    /// Where `--last` stands.
    last: usize,
    /// `exec`, which goes on with a thread of any kind.
    exec: bool,
    any_directory: bool,
    any_kind: bool,
    /// `-C`: where codex is told to work.
    directory: Option<PathBuf>,
    /// An option that takes all words after it stands before `--last`, which ends it.
    images: bool,
}

/// Names the thread that `--last` means, when the arguments ask for it and there is one; else they stay as they are, and
/// codex says what it finds.
pub fn resolve(args: &mut Vec<OsString>, codex_home: &Path) {
    let Some(wish) = wish(args) else { return };
    let Ok(here) = std::env::current_dir() else { return };
    let here = wish.directory.as_ref().map_or(here.clone(), |directory| here.join(directory));
    if let Some(thread) = Threads::of(codex_home).find(|thread| wish.means(thread, &here)) {
        put(args, &wish, &thread.id);
    }
}

impl Wish {
    fn means(&self, thread: &Thread, here: &Path) -> bool {
        let kind = match thread.origin {
            Origin::Interactive => true,
            Origin::Other => self.exec || self.any_kind,
            Origin::Agent => false,
        };
        let provider = thread.provider.as_deref().is_none_or(|provider| provider == PROVIDER);
        let there = || thread.cwd.as_deref().is_some_and(|cwd| same_place(Path::new(cwd), here));
        kind && provider && (self.any_directory || there())
    }
}

fn same_place(one: &Path, other: &Path) -> bool {
    one == other || matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

fn wish(args: &[OsString]) -> Option<Wish> {
    let mut wish =
        Wish { word: 0, last: 0, exec: false, any_directory: false, any_kind: false, directory: None, images: false };
    let (mut word, mut last) = (None, None);
    let mut at = 0;
    while let Some(arg) = args.get(at).and_then(|arg| arg.to_str()).filter(|arg| *arg != "--") {
        let place = at;
        at += 1;
        if !arg.starts_with('-') || arg == "-" {
            match (word, arg) {
                (None, "exec" | "e") if !wish.exec => wish.exec = true,
                (None, "resume") => word = Some(place),
                (None, "fork") if !wish.exec => word = Some(place),
                // The prompt.
                (Some(_), _) => {}
                _ => return None,
            }
            continue;
        }
        let (name, joined) = match arg.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name, Some(value)),
            _ if arg.starts_with("--") => (arg, None),
            // A short option with its value, or several: codex has no short switch that matters here.
            _ => match arg.char_indices().nth(2) {
                Some((end, _)) => (&arg[..end], Some(arg[end..].trim_start_matches('='))),
                None => (arg, None),
            },
        };
        let value = joined.map(OsString::from).or_else(|| args.get(at).cloned());
        if joined.is_none() && VALUED.contains(&name) {
            at += 1;
        }
        match name {
            "--last" if joined.is_none() => last = Some(place),
            "--all" => wish.any_directory = true,
            "--include-non-interactive" => wish.any_kind = true,
            "-C" | "--cd" => wish.directory = value.map(PathBuf::from),
            "-i" | "--image" if last.is_none() => wish.images = true,
            // Another machine's threads.
            "--remote" => return None,
            _ => {}
        }
    }
    (wish.word, wish.last) = (word?, last?);
    (wish.word < wish.last).then_some(wish)
}

/// The id goes where codex reads the first word after `resume`, in front of a prompt.
fn put(args: &mut Vec<OsString>, wish: &Wish, id: &str) {
    if wish.images && !wish.any_directory {
        // Something must end the list of images. With an id it says nothing.
        args[wish.last] = "--all".into();
    } else {
        args.remove(wish.last);
    }
    args.insert(wish.word + 1, id.into());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn the_id_takes_the_place_of_last_and_the_rest_stays() {
        for (given, expected) in [
            ("resume --last", "resume ID"),
            ("resume --last PROMPT", "resume ID PROMPT"),
            ("resume PROMPT --last", "resume ID PROMPT"),
            ("resume --last -- --last", "resume ID -- --last"),
            ("-m gpt resume -c a=b --last --all", "-m gpt resume ID -c a=b --all"),
            ("--search resume --last", "--search resume ID"),
            ("fork --last", "fork ID"),
            ("exec resume --last -", "exec resume ID -"),
            ("exec --json -C /d resume --last", "exec --json -C /d resume ID"),
            ("e -mgpt resume --json --last go", "e -mgpt resume ID --json go"),
            ("resume -i a.png --last PROMPT", "resume ID -i a.png --all PROMPT"),
        ] {
            let mut args = args(given);
            let wish = wish(&args).unwrap_or_else(|| panic!("{given}"));
            put(&mut args, &wish, "ID");
            assert_eq!(args.join(" ".as_ref()).to_str(), Some(expected));
        }
    }

    #[test]
    fn what_is_no_plain_form_is_left_to_codex() {
        for given in [
            "resume",
            "resume ID",
            "resume -- --last",
            "--last resume",
            "--last",
            "resume --last=x",
            "exec --last",
            "exec fork --last",
            "exec exec resume --last",
            "write resume --last",
            "-m resume --last",
            "resume -m --last",
            "--remote ws://x resume --last",
            "exec -- resume --last",
            "",
        ] {
            assert_eq!(wish(&args(given)), None, "{given}");
        }
    }

    #[test]
    fn where_and_which() {
        let of = |line| wish(&args(line)).unwrap();
        assert_eq!(of("resume -C /a --last").directory.as_deref(), Some(Path::new("/a")));
        assert_eq!(of("--cd=/a exec resume --last -Cb").directory.as_deref(), Some(Path::new("b")));
        let thread = |origin, cwd: Option<&str>, provider: Option<&str>| Thread {
            id: String::new(),
            path: PathBuf::new(),
            updated_at: 0,
            cwd: cwd.map(Into::into),
            origin,
            provider: provider.map(Into::into),
        };
        let (here, exec) = (Some("/no/here"), Origin::Other);
        for (line, thread, means) in [
            ("resume --last", thread(Origin::Interactive, here, None), true),
            ("resume --last", thread(exec, here, None), false),
            ("resume --last --include-non-interactive", thread(exec, here, None), true),
            ("exec resume --last", thread(exec, here, Some("openai")), true),
            ("exec resume --last", thread(exec, here, Some("ollama")), false),
            ("exec resume --last", thread(exec, Some("/no/where"), None), false),
            ("exec resume --last", thread(exec, None, None), false),
            ("exec resume --last --all", thread(exec, None, None), true),
            ("exec resume --last --all", thread(Origin::Agent, here, None), false),
        ] {
            assert_eq!(of(line).means(&thread, Path::new("/no/here")), means, "{line} {thread:?}");
        }
        assert!(same_place(Path::new("/proc/self/../.."), Path::new("/")));
    }
}
