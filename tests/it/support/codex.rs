//! The real codex, installed once, and a false one that records how it was called. Knows no backend.

use super::space::TestSpace;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// The version that wire.md describes.
pub const CURRENT: &str = "0.169.0";

/// The binary of this version. Installed by `scripts/codex` when missing, under its lock, asked once per process.
pub fn real(version: &str) -> PathBuf {
    static KNOWN: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(path) = known.get(version) {
        return path.clone();
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/codex");
    let output = Command::new(&script).arg(version).output().expect("scripts/codex starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "scripts/codex {version} failed:\n{stderr}");
    let path = PathBuf::from(String::from_utf8(output.stdout).expect("a path in UTF-8").trim_end());
    known.insert(version.to_owned(), path.clone());
    path
}

/// A `codex` that is a shell script. Each call is recorded, then `body` runs (POSIX sh; `"$@"` are the arguments).
pub struct Fake {
    pub path: PathBuf,
    calls: PathBuf,
}

/// One call of the false codex.
#[derive(Debug, Clone)]
pub struct Call {
    pub args: Vec<String>,
    pub env: BTreeMap<String, String>,
    pub dir: String,
}

impl Fake {
    /// `body`: what it does after it recorded the call, like `exit 7` or `trap 'exit 3' TERM; sleep 60 & wait`.
    pub fn new(space: &TestSpace, body: &str) -> Fake {
        let (path, calls) = (space.root().join("fake-codex"), space.root().join("fake-calls"));
        fs::create_dir_all(&calls).expect("a directory for the calls");
        // NUL between the entries: arguments may hold line ends. Renamed into place: a reader never sees half a call.
        let script = format!(
            "#!/bin/sh\nbase='{}'/$$\n(printf '%s\\0' \"$PWD\" \"$@\") > \"$base.args.partial\"\nenv -0 > \"$base.env\"\nmv \"$base.args.partial\" \"$base.args\"\n{body}\n",
            calls.display()
        );
        fs::write(&path, script).expect("the script is written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is made executable");
        Fake { path, calls }
    }

    pub fn path(&self) -> &str {
        self.path.to_str().expect("test paths are UTF-8")
    }

    /// So far, oldest first.
    pub fn calls(&self) -> Vec<Call> {
        let mut files: Vec<PathBuf> = fs::read_dir(&self.calls)
            .expect("the directory is there")
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|end| end == "args"))
            .collect();
        files.sort_by_key(|path| fs::metadata(path).and_then(|data| data.modified()).ok());
        files.iter().map(|path| call(path)).collect()
    }
}

fn call(path: &Path) -> Call {
    let entries = |path: &Path| -> Vec<String> {
        let bytes = fs::read(path).expect("a recorded call");
        let text = String::from_utf8_lossy(&bytes).into_owned();
        text.split_terminator('\0').map(str::to_owned).collect()
    };
    let mut args = entries(path);
    let dir = args.remove(0);
    let env = entries(&path.with_extension("env"));
    let pair = |entry: String| entry.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    Call { args, env: env.into_iter().filter_map(pair).collect(), dir }
}
