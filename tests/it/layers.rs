//! The layer table of src/lib.rs, held against the code: who may use whom, where `unsafe`, the clock, threads and sockets
//! may be. Reads source text; needs no build.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// `crate::X` that may stand in non-test code of a layer, by its directory or file.
const MAY_USE: &[(&str, &[&str])] = &[
    ("cli", &["cli", "error"]),
    ("config", &["error"]),
    ("error", &["foreign"]),
    ("foreign", &[]),
    ("screen", &["screen", "quota", "foreign"]),
    ("proxy", &["proxy", "profile", "quota", "state", "net", "wire", "sys", "config", "error"]),
    ("quota", &["quota", "profile", "state", "net", "wire", "sys", "config", "error"]),
    ("profile", &["profile", "state", "wire", "sys", "config", "error"]),
    ("state", &["state", "profile", "wire", "sys", "config", "error"]),
    ("net", &["net", "wire", "sys"]),
    ("wire", &["wire"]),
    ("sys", &["sys"]),
];

/// Pure by promise: no clock, no file, no socket, no thread.
const PURE: &[&str] = &[
    "proxy/route.rs",
    "proxy/affinity.rs",
    "proxy/health.rs",
    "proxy/select.rs",
    "proxy/budget.rs",
    "proxy/verdict.rs",
    "proxy/workspace.rs",
    "proxy/guard.rs",
    "proxy/tap.rs",
    "proxy/turn.rs",
    "proxy/limits.rs",
    "proxy/launch.rs",
    "profile/rollout.rs",
    "profile/shared.rs",
    "quota/mod.rs",
    "quota/pool.rs",
    "quota/schedule.rs",
    "quota/snapshots.rs",
    "quota/usage.rs",
    "cli.rs",
    "cli/",
    "foreign.rs",
    "wire/",
    "screen/",
];
const IMPURE: &[&str] = &[
    "std::net::Tcp",
    "ToSocketAddrs",
    "std::fs",
    "std::thread",
    "std::env",
    "clock::",
    "Instant::now",
    "SystemTime",
    "std::io::std",
];

#[test]
fn each_layer_uses_only_those_below() {
    let mut wrong = Vec::new();
    for (path, code) in sources() {
        let layer = path.split('/').next().unwrap().trim_end_matches(".rs").to_owned();
        let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| *name == layer) else { continue };
        for (number, line) in code.lines().enumerate() {
            for used in line.split("crate::").skip(1) {
                let used: String = used.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
                if !used.is_empty() && !allowed.contains(&used.as_str()) {
                    wrong.push(format!("src/{path}:{}: {layer} uses {used}", number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_pure_parts_are_pure() {
    let mut wrong = Vec::new();
    for (path, code) in sources().into_iter().filter(|(path, _)| PURE.iter().any(|pure| path.starts_with(pure))) {
        for (number, line) in code.lines().enumerate() {
            for impure in IMPURE.iter().filter(|impure| line.contains(*impure)) {
                wrong.push(format!("src/{path}:{}: {impure}", number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn one_clock_and_one_place_for_unsafe_and_for_each_foreign_crate() {
    let home = |word: &str| match word {
        "Instant::now" | "SystemTime" => vec!["sys/clock.rs"],
        "unsafe {" | "libc::" => vec!["sys/"],
        "lexopt::" => vec!["cli/read.rs"],
        "httparse::" => vec!["wire/head.rs"],
        "sha1_smol::" => vec!["wire/handshake.rs"],
        "unicode_width::" => vec!["screen/text.rs"],
        "rustls::" => vec!["net/"],
        "std::process::exit" => vec![],
        _ => unreachable!(),
    };
    let words = [
        "Instant::now",
        "SystemTime",
        "unsafe {",
        "libc::",
        "lexopt::",
        "httparse::",
        "sha1_smol::",
        "unicode_width::",
        "rustls::",
        "std::process::exit",
    ];
    let mut wrong = Vec::new();
    for (path, code) in sources() {
        for word in words.iter().filter(|word| code.contains(**word)) {
            if !home(word).iter().any(|home| path.starts_with(home)) {
                wrong.push(format!("src/{path}: {word}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_file_says_what_it_does_and_the_map_names_every_layer() {
    let mut wrong = Vec::new();
    let mut layers = BTreeSet::new();
    for (path, code) in all_sources() {
        let is_test_part =
            path.ends_with("/tests.rs") || path.ends_with("/scratch.rs") || path.ends_with("/hostile.rs");
        if !code.starts_with("//! ") && !is_test_part {
            wrong.push(format!("src/{path} does not open with what it does"));
        }
        layers.insert(path.split('/').next().unwrap().trim_end_matches(".rs").to_owned());
    }
    let map = fs::read_to_string(src().join("lib.rs")).unwrap();
    for layer in layers.iter().filter(|layer| !["main", "lib"].contains(&layer.as_str())) {
        if !map.contains(&format!("[`{layer}`]")) {
            wrong.push(format!("the map does not name {layer}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Path below src and code, without comments and without the tests at the bottom.
fn sources() -> Vec<(String, String)> {
    all_sources()
        .into_iter()
        .filter(|(path, _)| !["tests.rs", "scratch.rs", "hostile.rs"].iter().any(|name| path.ends_with(name)))
        .map(|(path, code)| {
            let code = code.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned();
            let keep = |line: &str| if line.trim_start().starts_with("//") { String::new() } else { line.to_owned() };
            (path, code.lines().map(keep).collect::<Vec<_>>().join("\n"))
        })
        .collect()
}

fn all_sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut dirs = vec![src()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                dirs.push(entry);
            } else if entry.extension().is_some_and(|extension| extension == "rs") {
                let path = entry.strip_prefix(src()).unwrap().to_str().unwrap().to_owned();
                found.push((path, fs::read_to_string(&entry).unwrap()));
            }
        }
    }
    assert!(found.len() > 40, "the sources were not found");
    found
}
