//! Names of profiles: which are valid, and how an e-mail address becomes one.
//! A name is the name of a directory under `<root>/profiles`; this file knows no directory.

use crate::error::Error;

/// Long enough for any mail address worth keeping; far below the 255 bytes of a file name, so that suffixes fit.
pub const MAX_LEN: usize = 100;

/// Every name is checked here: from argv, from `state.json`, from a token (spec S-81).
pub fn validate(name: &str) -> Result<(), Error> {
    let fault = if name.is_empty() {
        "profile name cannot be empty".to_owned()
    } else if name.contains(['/', '\\']) {
        "profile name cannot contain path separators".to_owned()
    } else if name == "." || name == ".." {
        "profile name cannot be '.' or '..'".to_owned()
    } else if !name.chars().all(is_allowed) {
        "profile name may only contain letters, numbers, '.', '_' or '-'".to_owned()
    } else if name.len() > MAX_LEN {
        format!("profile name cannot be longer than {MAX_LEN} characters")
    } else {
        return Ok(());
    };
    Err(Error::new(fault))
}

/// The same for a name that is given now: one that looks like an option could not be typed again.
pub fn validate_new(name: &str) -> Result<(), Error> {
    validate(name)?;
    if name.starts_with('-') {
        return Err(Error::new("profile name cannot begin with '-'"));
    }
    Ok(())
}

/// `Main@Example.com` -> `main_example.com`. Always a valid name.
pub fn from_email(email: &str) -> String {
    let letter = |c: char| match c {
        '@' => '_',
        c if is_allowed(c) => c,
        _ => '-',
    };
    let name: String = email.chars().take(4 * MAX_LEN).flat_map(char::to_lowercase).map(letter).collect();
    let trimmed = name.trim_matches(EDGES);
    let bounded = trimmed.get(..MAX_LEN).unwrap_or(trimmed).trim_end_matches(EDGES);
    if bounded.is_empty() { "profile".to_owned() } else { bounded.to_owned() }
}

/// `base`, or `base-2`, `base-3`… : the first that is not taken. `base` is a valid name.
pub fn first_free(base: &str, taken: impl Fn(&str) -> bool) -> String {
    let numbered = (2_u64..).map(|number| {
        let suffix = format!("-{number}");
        let room = MAX_LEN.saturating_sub(suffix.len());
        format!("{}{suffix}", base.get(..room).unwrap_or(base))
    });
    let mut names = std::iter::once(base.to_owned()).chain(numbered);
    names.find(|name| !taken(name)).unwrap_or_else(|| base.to_owned())
}

/// What a name made from an e-mail neither begins nor ends with.
const EDGES: [char; 3] = ['.', '_', '-'];

fn is_allowed(c: char) -> bool {
    c.is_ascii_alphanumeric() || EDGES.contains(&c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_and_invalid_names() {
        for name in ["main", "a", "A.b_c-9", "-x", ".hidden", "...", &"n".repeat(100)] {
            assert!(validate(name).is_ok(), "{name}");
        }
        let rows = [
            ("", "profile name cannot be empty"),
            ("a/b", "profile name cannot contain path separators"),
            ("..\\b", "profile name cannot contain path separators"),
            (".", "profile name cannot be '.' or '..'"),
            ("..", "profile name cannot be '.' or '..'"),
            ("a b", "profile name may only contain letters, numbers, '.', '_' or '-'"),
            ("ä", "profile name may only contain letters, numbers, '.', '_' or '-'"),
            ("a\0", "profile name may only contain letters, numbers, '.', '_' or '-'"),
            (&"n".repeat(101), "profile name cannot be longer than 100 characters"),
        ];
        for (name, text) in rows {
            assert_eq!(validate(name).unwrap_err().to_string(), text, "{name:?}");
        }
    }

    #[test]
    fn emails_become_names() {
        let rows = [
            ("main@example.com", "main_example.com"),
            ("First.Last+tag@Example.COM", "first.last-tag_example.com"),
            ("..a@b..", "a_b"),
            ("@", "profile"),
            ("", "profile"),
            ("../../etc", "etc"),
            ("日本@例え.jp", "jp"),
        ];
        for (email, name) in rows {
            assert_eq!(from_email(email), name, "{email}");
        }
        for email in ["x".repeat(5000), format!("{}-----y", "x".repeat(97)), "İ".repeat(300), "\u{7f}".repeat(9)] {
            assert!(validate(&from_email(&email)).is_ok(), "{email}");
        }
    }

    #[test]
    fn the_first_free_suffix() {
        assert_eq!(first_free("a", |_| false), "a");
        assert_eq!(first_free("a", |name| ["a", "a-2", "a-3"].contains(&name)), "a-4");
        let long = "n".repeat(100);
        let next = first_free(&long, |name| name == long);
        assert_eq!(next, format!("{}-2", "n".repeat(98)));
    }
}
