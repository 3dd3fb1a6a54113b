//! Whether a run talks to somebody else than the built-in `openai` provider: then no proxy of ours belongs in between
//! (spec S-52). Reads just the few keys of config.toml that decide this; codex itself judges the rest of the file.

use crate::state::file::read_bounded;
use std::borrow::Cow;
use std::ffi::OsString;
use std::path::Path;

/// A config.toml larger than this is not looked at: people write a few KB.
const MAX_CONFIG: u64 = 1024 * 1024;
const BUILT_IN: &str = "openai";

/// By the arguments for codex first, then by the config.toml of the home.
pub fn is_foreign(codex_home: &Path, args: &[OsString]) -> bool {
    let config = read_bounded(&codex_home.join("config.toml"), MAX_CONFIG).unwrap_or_default();
    foreign(&String::from_utf8_lossy(&config), &spoken(args))
}

/// What the arguments say that matters here.
#[derive(Default)]
struct Spoken {
    oss: bool,
    provider: Option<String>,
    profile: Option<String>,
}

/// Up to a `--`, and only in the forms that codex has; a prompt is one argument and is not looked into.
fn spoken(args: &[OsString]) -> Spoken {
    let mut spoken = Spoken::default();
    let mut args = args.iter().map(|arg| arg.to_string_lossy()).take_while(|arg| arg != "--");
    while let Some(arg) = args.next() {
        let (name, joined) = match arg.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name.to_owned(), Some(value.to_owned())),
            _ => match arg.strip_prefix("-c").filter(|rest| !rest.is_empty()) {
                Some(rest) => ("-c".to_owned(), Some(rest.trim_start_matches('=').to_owned())),
                None => (arg.into_owned(), None),
            },
        };
        let mut value = || joined.clone().or_else(|| args.next().map(Cow::into_owned));
        match name.as_str() {
            "--oss" => spoken.oss = true,
            "-p" | "--profile" => spoken.profile = value(),
            "-c" | "--config" => {
                let Some(pair) = value() else { continue };
                match pair.split_once('=').map(|(key, value)| (key.trim(), unquoted(value))) {
                    Some(("model_provider", value)) => spoken.provider = Some(value),
                    Some(("profile", value)) => spoken.profile = Some(value),
                    _ => {}
                }
            }
            _ => {}
        }
    }
    spoken
}

fn foreign(config: &str, spoken: &Spoken) -> bool {
    let profile = spoken.profile.clone().or_else(|| key(config, "", "profile"));
    let from_profile = profile.and_then(|name| {
        key(config, &format!("profiles.{name}"), "model_provider")
            .or_else(|| key(config, &format!("profiles.\"{name}\""), "model_provider"))
    });
    let provider = spoken.provider.clone().or(from_profile).or_else(|| key(config, "", "model_provider"));
    spoken.oss || provider.is_some_and(|provider| provider != BUILT_IN)
}

/// A string value by table and name; the table "" is the part before the first one.
fn key(config: &str, table: &str, name: &str) -> Option<String> {
    let mut current = "";
    for line in config.lines().map(str::trim) {
        if let Some(header) = line.strip_prefix('[') {
            current = header.split(']').next().unwrap_or_default().trim();
        } else if current == table
            && let Some((key, value)) = line.split_once('=')
            && key.trim().trim_matches('"') == name
        {
            return Some(unquoted(value));
        }
    }
    None
}

/// The value without its quotes and what follows them.
fn unquoted(value: &str) -> String {
    let value = value.trim();
    match value.chars().next() {
        Some(quote @ ('"' | '\'')) => value[1..].split(quote).next().unwrap_or_default().to_owned(),
        _ => value.split('#').next().unwrap_or_default().trim().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_asked() {
        let table: [(&str, &[&str], bool); 15] = [
            ("", &[], false),
            ("model_provider = \"openai\"", &[], false),
            ("model_provider = \"ollama\" # local", &[], true),
            ("model_provider='x'", &["-c", "model_provider=openai"], false),
            ("", &["exec", "-c", "model_provider=\"x\"", "hi"], true),
            ("", &["--config=model_provider=x"], true),
            ("", &["-cmodel_provider=x"], true),
            ("", &["--oss"], true),
            ("", &["exec", "write --oss into -c model_provider=x"], false),
            ("", &["exec", "--", "--oss"], false),
            ("[profiles.l]\nmodel_provider = \"x\"\n", &[], false),
            ("[profiles.l]\nmodel_provider = \"x\"\n", &["-p", "l"], true),
            ("profile = \"l\"\n[profiles.l]\nmodel_provider = \"x\"\n", &[], true),
            ("[model_providers.x]\nmodel_provider = \"x\"\n", &[], false),
            ("this is = [not toml\n\u{0}", &["-c"], false),
        ];
        for (config, args, expected) in table {
            let args: Vec<OsString> = args.iter().map(OsString::from).collect();
            assert_eq!(foreign(config, &spoken(&args)), expected, "{config} {args:?}");
        }
    }
}
