//! The document of `profile export`: profiles with the files of their accounts, for another machine. Pure: text and
//! bytes. What of a home belongs into it is decided here, too; `pack` reads and writes the files.
//!
//! `{"prodex_export": 1, "active_profile": NAME, "profiles": [{"name", "email", "disabled", "reserve_percent",
//! "files": [{"path", "executable", "base64"}]}]}`. It may come from anybody: nothing in it is believed before all of it is checked.

use super::copy::{CONFIGURATION, is_configuration};
use super::{auth, name};
use crate::wire::json::Raw;
use crate::wire::value::Value;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::collections::BTreeSet;

const VERSION: u64 = 1;
/// Of the document: a hundred homes with every skill there is.
pub const MAX_BYTES: u64 = 64 * 1024 * 1024;
/// Of the files in it, before base64 makes them a third larger.
pub const MAX_CONTENT: usize = 45 * 1024 * 1024;
/// Of one file; what the user wrote for codex is a few KB.
pub const MAX_FILE: u64 = auth::MAX_BYTES;
/// Of one profile.
pub const MAX_FILES: usize = 5_000;
const MAX_PROFILES: usize = 1_000;
/// Directories below each other, and bytes in a name: what every file system takes.
pub const MAX_DEPTH: usize = 64;
const MAX_NAME: usize = 255;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bundle {
    pub active: Option<String>,
    pub profiles: Vec<Packed>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Packed {
    pub name: String,
    pub email: Option<String>,
    pub disabled: bool,
    pub reserve: u8,
    pub files: Vec<PackedFile>,
}

/// No Debug: it may be a login.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct PackedFile {
    /// Below the home, with `/` between the names.
    pub path: String,
    pub executable: bool,
    pub bytes: Vec<u8>,
}

impl std::fmt::Debug for PackedFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({} bytes)", self.path, self.bytes.len())
    }
}

/// Whether a file of a home is the account's or the user's configuration: `auth.json`, texts at the top, and what is in the
/// directories of configuration. No other path is written by an import.
pub fn belongs(path: &str) -> bool {
    let names: Vec<&str> = path.split('/').collect();
    let is_plain = |name: &&str| {
        !name.is_empty() && *name != "." && *name != ".." && name.len() <= MAX_NAME && !name.contains('\0')
    };
    if !names.iter().all(is_plain) || names.len() > MAX_DEPTH {
        return false;
    }
    match names.as_slice() {
        [file] => *file == "auth.json" || is_configuration(file),
        [directory, ..] => CONFIGURATION.contains(directory),
        [] => false,
    }
}

impl Bundle {
    pub fn text(&self) -> String {
        let file = |file: &PackedFile| {
            Value::of([
                ("path", file.path.as_str().into()),
                ("executable", file.executable.into()),
                ("base64", STANDARD.encode(&file.bytes).as_str().into()),
            ])
        };
        let profile = |packed: &Packed| {
            Value::of([
                ("name", packed.name.as_str().into()),
                // One of the registry's that is none is not worth an export that cannot be read.
                (
                    "email",
                    packed.email.as_deref().filter(|email| auth::is_decent(email)).map_or(Value::Null, Value::from),
                ),
                ("disabled", packed.disabled.into()),
                ("reserve_percent", u64::from(packed.reserve).into()),
                ("files", Value::Array(packed.files.iter().map(file).collect())),
            ])
        };
        let document = Value::of([
            ("prodex_export", VERSION.into()),
            ("active_profile", self.active.as_deref().map_or(Value::Null, Value::from)),
            ("profiles", Value::Array(self.profiles.iter().map(profile).collect())),
        ]);
        document.pretty() + "\n"
    }

    /// Fails with what is wrong with it.
    pub fn parse(text: &[u8]) -> Result<Bundle, String> {
        let document = Raw::parse(text).map_err(|error| format!("it is no JSON: {error}"))?;
        match document.member("prodex_export").map(|version| version.as_u64()) {
            Some(Some(VERSION)) => {}
            Some(_) => return Err("it was made by another version of prodex".to_owned()),
            None => return Err("it is no export of prodex".to_owned()),
        }
        let entries = list(&document, "profiles", MAX_PROFILES)?;
        let mut names = BTreeSet::new();
        let mut profiles = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            let name = text_of(entry, "name").unwrap_or_default();
            name::validate(&name).map_err(|error| format!("profile {}: {error}", index + 1))?;
            let packed = profile(&name, entry).map_err(|why| format!("profile '{name}': {why}"))?;
            if !names.insert(name.clone()) {
                return Err(format!("profile '{name}' is in it twice"));
            }
            profiles.push(packed);
        }
        if profiles.is_empty() {
            return Err("there is no profile in it".to_owned());
        }
        Ok(Bundle { active: text_of(&document, "active_profile"), profiles })
    }
}

fn text_of(value: &Raw, name: &str) -> Option<String> {
    Some(value.member(name)?.as_str()?.into_owned())
}

/// The elements of a member, which must be a list of at most so many.
fn list<'a>(value: &Raw<'a>, name: &str, most: usize) -> Result<Vec<Raw<'a>>, String> {
    let list = value.member(name).filter(Raw::is_array).ok_or_else(|| format!("its \"{name}\" are missing"))?;
    let elements: Vec<Raw> = list.elements().take(most + 1).collect();
    if elements.len() > most {
        return Err(format!("it has more than {most} {name}"));
    }
    Ok(elements)
}

fn profile(name: &str, entry: &Raw) -> Result<Packed, String> {
    let given = |name: &str| entry.member(name).filter(|value| !value.is_null());
    let email = match given("email") {
        None => None,
        Some(email) => {
            let email = email.as_str().filter(|email| auth::is_decent(email));
            Some(email.ok_or("its email is no e-mail address")?.into_owned())
        }
    };
    let disabled = match given("disabled") {
        None => false,
        Some(value) => value.as_bool().ok_or("\"disabled\" is neither true nor false")?,
    };
    let reserve = given("reserve_percent").map_or(Some(0), |value| value.as_u64());
    let reserve = reserve.and_then(|percent| u8::try_from(percent).ok()).filter(|percent| *percent < 100);
    let reserve = reserve.ok_or("\"reserve_percent\" is not 0 to 99")?;
    let files = list(entry, "files", MAX_FILES)?.iter().map(file).collect::<Result<Vec<_>, String>>()?;
    let mut directories = BTreeSet::new();
    let mut paths = BTreeSet::new();
    for file in &files {
        directories.extend(file.path.match_indices('/').filter_map(|(at, _)| file.path.get(..at)));
        if !paths.insert(file.path.as_str()) {
            return Err(format!("{} is in it twice", file.path));
        }
    }
    if let Some(both) = directories.intersection(&paths).next() {
        return Err(format!("{both} is a file and a directory"));
    }
    Ok(Packed { name: name.to_owned(), email, disabled, reserve, files })
}

fn file(entry: &Raw) -> Result<PackedFile, String> {
    let path = text_of(entry, "path").ok_or("a file has no path")?;
    if !belongs(&path) {
        return Err(format!("'{path}' does not belong into a profile"));
    }
    let executable = entry.member("executable").is_some_and(|value| value.as_bool() == Some(true));
    let bytes = entry.member("base64").and_then(|value| STANDARD.decode(value.as_str()?.as_bytes()).ok());
    let bytes = bytes.ok_or_else(|| format!("the content of {path} is no base64"))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(format!("{path} is too large"));
    }
    Ok(PackedFile { path, executable, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, bytes: &[u8]) -> PackedFile {
        PackedFile { path: path.into(), executable: path.starts_with("skills/"), bytes: bytes.into() }
    }

    fn sample() -> Bundle {
        let main = Packed {
            name: "main".into(),
            email: Some("a@b".into()),
            disabled: true,
            reserve: 20,
            files: vec![file("auth.json", b"{\"x\": 1.50}\n"), file("skills/s/run.sh", &[0, 255]), file("a.toml", b"")],
        };
        let bare = Packed { name: "bare".into(), ..Packed::default() };
        Bundle { active: Some("main".into()), profiles: vec![main, bare] }
    }

    #[test]
    fn what_is_written_is_read_byte_for_byte() {
        let text = sample().text();
        assert_eq!(Bundle::parse(text.as_bytes()), Ok(sample()));
        for cut in 0..text.len() - 2 {
            assert!(Bundle::parse(&text.as_bytes()[..cut]).is_err(), "{cut}");
        }
        assert!(!format!("{:?}", sample()).contains("1.50"), "no content in a log");
        let mut long = sample();
        long.profiles[0].email = Some("x".repeat(1_000_000));
        assert_eq!(Bundle::parse(long.text().as_bytes()).unwrap().profiles[0].email, None);
    }

    #[test]
    fn what_belongs_into_a_home() {
        for path in
            ["auth.json", "config.toml", "work.config.toml", "AGENTS.md", ".credentials.json", "skills/a/b", "rules/x"]
        {
            assert!(belongs(path), "{path}");
        }
        let deep = format!("skills/{}x", "d/".repeat(MAX_DEPTH));
        let long = format!("skills/{}", "x".repeat(256));
        for path in [
            "",
            "/",
            "/etc/x.toml",
            "../x.md",
            "skills/../../x",
            "skills/./x",
            "skills//x",
            "skills/",
            "skills",
            "a/b.md",
            "sessions/x",
            "history.jsonl",
            "state_5.sqlite",
            "auth.lock",
            "auth.json/",
            "./auth.json",
            "x\0.md",
            &deep,
            &long,
        ] {
            assert!(!belongs(path), "{path}");
        }
    }

    #[test]
    fn a_hostile_document_is_refused_with_its_reason() {
        let files =
            |files: &str| format!(r#"{{"prodex_export": 1, "profiles": [{{"name": "a", "files": [{files}]}}]}}"#);
        let row = |path: &str| format!(r#"{{"path": "{path}", "base64": ""}}"#);
        let email = |email: &str| format!("\"email\": \"{email}\", \"files\"");
        for (text, reason) in [
            ("null".to_owned(), "it is no export of prodex"),
            ("{}".to_owned(), "it is no export of prodex"),
            ("\0".to_owned(), "it is no JSON"),
            ("[".repeat(100_000), "it is no JSON"),
            (r#"{"prodex_export": 2}"#.to_owned(), "another version"),
            (r#"{"prodex_export": 1}"#.to_owned(), "\"profiles\" are missing"),
            (r#"{"prodex_export": 1, "profiles": []}"#.to_owned(), "there is no profile in it"),
            (r#"{"prodex_export": 1, "profiles": [{}]}"#.to_owned(), "profile 1: "),
            (r#"{"prodex_export": 1, "profiles": [{"name": "../x"}]}"#.to_owned(), "profile 1: "),
            (r#"{"prodex_export": 1, "profiles": [{"name": "a"}]}"#.to_owned(), "profile 'a': its \"files\""),
            (files("").replace("\"files\"", "\"email\": 5, \"files\""), "its email is no e-mail address"),
            (files("").replace("\"files\"", &email(&"x".repeat(321))), "its email is no e-mail address"),
            (files("").replace("\"files\"", &email("a\\u001b[2J@b")), "its email is no e-mail address"),
            (files("").replace("\"files\"", "\"disabled\": 5, \"files\""), "\"disabled\" is neither"),
            (files("").replace("\"files\"", "\"reserve_percent\": 100, \"files\""), "\"reserve_percent\" is not"),
            (files("").replace("}]}", "}, {\"name\": \"a\", \"files\": []}]}"), "profile 'a' is in it twice"),
            (files(&row("a.md").repeat(2)), "it is no JSON"),
            (files(&vec![row("a.md"); 5_001].join(",")), "it has more than 5000 files"),
            (files("{}"), "a file has no path"),
            (files(&row("../../.ssh/x.md")), "'../../.ssh/x.md' does not belong"),
            (files(&row("auth.json").replace("\"\"", "\"???\"")), "the content of auth.json is no base64"),
            (files(&format!("{}, {}", row("a.md"), row("a.md"))), "a.md is in it twice"),
            (files(&format!("{}, {}", row("skills/a"), row("skills/a/b"))), "skills/a is a file and a directory"),
        ] {
            let error = Bundle::parse(text.as_bytes()).expect_err(reason);
            assert!(error.contains(reason), "{reason}: {error}");
        }
        assert!(Bundle::parse(files("").as_bytes()).is_ok());
    }
}
