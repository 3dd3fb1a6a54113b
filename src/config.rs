//! Environment and paths, read once at the start. Knows no command and opens no file.

use crate::error::Error;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Where the backend is when nobody says otherwise (spec S-40).
pub const DEFAULT_BASE_URL: &str = "https://chatgpt.com/backend-api";

#[derive(Debug, Clone)]
pub struct Config {
    /// `PRODEX_HOME`, default `~/.prodex`. Absolute.
    pub root: PathBuf,
    /// `PRODEX_SHARED_CODEX_HOME`, default `~/.codex`: the history store that managed profiles share. Absolute.
    pub shared_codex_home: PathBuf,
    /// `~/.codex`: what `import-current` copies. The inherited `CODEX_HOME` is ignored, as 0.2.38 does. Absolute.
    pub default_codex_home: PathBuf,
    /// `PRODEX_CODEX_BIN`, default `codex`, looked up in `PATH`.
    pub codex_bin: OsString,
    /// `CODEX_CHATGPT_BASE_URL` or the backend's own address, without a trailing slash; `--base-url` replaces it.
    pub base_url: String,
}

impl Config {
    pub fn from_env() -> Result<Config, Error> {
        Config::from_lookup(|name| std::env::var_os(name).filter(|value| !value.is_empty()))
    }

    /// `lookup` gives the value of a variable, absent when empty.
    fn from_lookup(lookup: impl Fn(&str) -> Option<OsString>) -> Result<Config, Error> {
        let home = lookup("HOME").map(PathBuf::from);
        let under_home = |name: &str| {
            home.as_ref().map(|home| home.join(name)).ok_or_else(|| {
                Error::new("HOME is not set").next("Set HOME, or PRODEX_HOME and PRODEX_SHARED_CODEX_HOME.")
            })
        };
        let path = |variable: &str, default: &str| match lookup(variable) {
            Some(value) => Ok(PathBuf::from(value)),
            None => under_home(default),
        };
        let root = absolute(&path("PRODEX_HOME", ".prodex")?)?;
        let shared_codex_home = absolute(&path("PRODEX_SHARED_CODEX_HOME", ".codex")?)?;
        let default_codex_home = match &home {
            Some(home) => absolute(&home.join(".codex"))?,
            None => shared_codex_home.clone(),
        };
        let base_url = match lookup("CODEX_CHATGPT_BASE_URL") {
            Some(value) => value
                .into_string()
                .map_err(|_| Error::new("CODEX_CHATGPT_BASE_URL is not valid UTF-8"))?
                .trim_end_matches('/')
                .to_owned(),
            None => DEFAULT_BASE_URL.to_owned(),
        };
        Ok(Config {
            root,
            shared_codex_home,
            default_codex_home,
            codex_bin: lookup("PRODEX_CODEX_BIN").unwrap_or_else(|| "codex".into()),
            base_url,
        })
    }

    pub fn profiles_dir(&self) -> PathBuf {
        self.root.join("profiles")
    }

    pub fn state_file(&self) -> PathBuf {
        self.root.join("state.json")
    }
}

fn absolute(path: &Path) -> Result<PathBuf, Error> {
    std::path::absolute(path).map_err(|error| Error::io("resolve", path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(vars: &[(&str, &str)]) -> Result<Config, Error> {
        let vars: Vec<(String, OsString)> = vars.iter().map(|(k, v)| ((*k).to_owned(), OsString::from(v))).collect();
        Config::from_lookup(|name| vars.iter().find(|(k, _)| k == name).map(|(_, v)| v.clone()))
    }

    #[test]
    fn defaults_hang_off_home() {
        let c = config(&[("HOME", "/h"), ("CODEX_HOME", "/elsewhere")]).unwrap();
        assert_eq!(c.root, Path::new("/h/.prodex"));
        assert_eq!(c.shared_codex_home, Path::new("/h/.codex"));
        assert_eq!(c.default_codex_home, Path::new("/h/.codex"));
        assert_eq!(c.codex_bin, "codex");
        assert_eq!(c.base_url, "https://chatgpt.com/backend-api");
    }

    #[test]
    fn variables_win_and_a_trailing_slash_goes() {
        let c = config(&[
            ("PRODEX_HOME", "/p"),
            ("PRODEX_SHARED_CODEX_HOME", "/s"),
            ("CODEX_CHATGPT_BASE_URL", "http://x/backend-api/"),
        ])
        .unwrap();
        assert_eq!(c.root, Path::new("/p"));
        assert_eq!(c.default_codex_home, Path::new("/s"));
        assert_eq!(c.base_url, "http://x/backend-api");
        assert!(config(&[("PRODEX_HOME", "/p")]).is_err());
    }
}
