//! argv to words and flags by the table: which command it is, and what was given to it. Knows no meaning of either.

use super::table::{self, Flag, Spec};
use super::wrong::{shown, unknown_command, unknown_flag, wrong};
use crate::error::Error;
use std::ffi::{OsStr, OsString};

/// What a command line is.
pub enum Line {
    /// Of the command that it names.
    Help(String),
    /// No command is named: the help of the group.
    Bare(String),
    Version,
    Given(&'static Spec, Given),
}

/// Reads the arguments after the program's name.
pub fn read(args: Vec<OsString>) -> Result<Line, Error> {
    let mut parser = lexopt::Parser::from_args(args);
    let mut path: Vec<&'static str> = Vec::new();
    let spec = loop {
        let spec = table::find(&path).ok_or_else(|| Error::usage("no such command"))?;
        if !spec.is_group() {
            break spec;
        }
        match parser.next().map_err(|error| describe(&error, spec))? {
            None => return Ok(Line::Bare(spec.help())),
            Some(lexopt::Arg::Long("help") | lexopt::Arg::Short('h')) => return Ok(Line::Help(spec.help())),
            Some(lexopt::Arg::Long("version") | lexopt::Arg::Short('V')) if path.is_empty() => {
                return Ok(Line::Version);
            }
            Some(lexopt::Arg::Value(word)) if word == "help" => return help(&path, &rest(&mut parser)),
            Some(lexopt::Arg::Value(word)) => path.push(child(spec, &word)?),
            Some(lexopt::Arg::Long(name)) => return Err(unknown_flag(spec, &format!("--{name}"))),
            Some(lexopt::Arg::Short(name)) => return Err(unknown_flag(spec, &format!("-{name}"))),
        }
    };
    let given = of_command(spec, &mut parser)?;
    Ok(given.map_or_else(|| Line::Help(spec.help()), |given| Line::Given(spec, given)))
}

/// What was typed after the words of a command.
#[derive(Default)]
pub struct Given {
    flags: Vec<(&'static str, OsString)>,
    pub words: Vec<OsString>,
}

impl Given {
    pub fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|(long, _)| *long == flag)
    }

    pub fn value(&mut self, flag: &str) -> Option<OsString> {
        let at = self.flags.iter().position(|(long, _)| *long == flag)?;
        Some(self.flags.swap_remove(at).1)
    }

    pub fn text(&mut self, flag: &str) -> Result<Option<String>, Error> {
        self.value(flag).map(|value| text(value, &format!("the value of --{flag}"))).transpose()
    }

    /// A profile named by `-p` or by position, not both.
    pub fn profile(&mut self, spec: &Spec) -> Result<Option<String>, Error> {
        let flag = self.text("profile")?;
        match (flag, self.words.pop()) {
            (Some(_), Some(_)) => Err(wrong("a profile is named twice", spec)),
            (Some(name), None) => Ok(Some(name)),
            (None, word) => word.map(|word| text(word, "the profile name")).transpose(),
        }
    }

    pub fn file_and_names(&mut self) -> Result<(OsString, Vec<String>), Error> {
        let mut words = std::mem::take(&mut self.words).into_iter();
        let file = words.next().unwrap_or_default();
        Ok((file, words.map(|word| text(word, "the profile name")).collect::<Result<_, _>>()?))
    }

    pub fn conflict(&self, one: &str, other: &str, spec: &Spec) -> Result<(), Error> {
        if self.has(one) && self.has(other) {
            return Err(wrong(&format!("--{one} and --{other} exclude each other"), spec));
        }
        Ok(())
    }
}

/// Reads flags and words by the table; `None` when help is asked for.
fn of_command(spec: &'static Spec, parser: &mut lexopt::Parser) -> Result<Option<Given>, Error> {
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
    let needs = || wrong(&format!("--{} needs a value", flag.long), spec);
    if let Some(value) = parser.optional_value() {
        return if value.is_empty() { Err(needs()) } else { Ok(value) };
    }
    let looks_like_flag = |token: &OsStr| token.len() > 1 && token.as_encoded_bytes().starts_with(b"-");
    let next = parser.try_raw_args().and_then(|mut raw| raw.next_if(|token| !looks_like_flag(token)));
    // An empty one is a variable of a script that was not set.
    next.filter(|token| !token.is_empty()).ok_or_else(needs)
}

fn rest(parser: &mut lexopt::Parser) -> Vec<OsString> {
    parser.try_raw_args().map(Iterator::collect).unwrap_or_default()
}

/// `prodex help profile add`.
fn help(path: &[&'static str], words: &[OsString]) -> Result<Line, Error> {
    let mut path = path.to_vec();
    for word in words {
        if word == "--help" || word == "-h" {
            continue;
        }
        let spec = table::find(&path).ok_or_else(|| Error::usage("no such command"))?;
        path.push(child(spec, word)?);
    }
    let text = table::find(&path).map(Spec::help).unwrap_or_default();
    Ok(Line::Help(text))
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

pub fn text(value: OsString, what: &str) -> Result<String, Error> {
    value.into_string().map_err(|_| Error::usage(format!("{what} is not valid UTF-8")))
}
