//! argv -> Command. Pure.

use crate::error::Error;
use std::ffi::OsString;

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
    ProfileList,
    ProfileRemove {
        name: String,
        delete_home: bool,
    },
    /// `use NAME`, `use -p NAME`, `profile use NAME`, `profile use -p NAME`.
    Use {
        name: String,
    },
    Current,
    Quota(Quota),
    Run(Run),
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
pub struct Quota {
    pub profile: Option<String>,
    pub all: bool,
    pub detail: bool,
    pub raw: bool,
    pub once: bool,
    pub base_url: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Run {
    pub profile: Option<String>,
    pub no_auto_rotate: bool,
    pub skip_quota_check: bool,
    pub base_url: Option<String>,
    pub args: Vec<OsString>,
}

pub fn parse(_args: impl IntoIterator<Item = OsString>) -> Result<Command, Error> {
    Err(Error::usage("not parsed yet"))
}
