//! argv -> Command (spec S-10 to S-13). Pure: knows no file, no environment and no profile.
//! The words and flags are those of `table`, `read` finds them; this file gives them their meaning.

pub mod completions;
mod help;
pub mod man;
mod read;
pub mod table;
mod wrong;

use crate::error::Error;
use read::{Given, Line, text};
use std::ffi::{OsStr, OsString};
use table::Spec;
use wrong::{shown, unknown_command, wrong};

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
    Ok(match read::read(args.into_iter().collect())? {
        Line::Help(text) => Command::Help(text),
        Line::Bare(text) => Command::Bare(text),
        Line::Version => Command::Version,
        Line::Given(spec, given) => meaning(spec, given)?,
    })
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
