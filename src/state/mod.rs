//! What `state.json` holds (spec S-20): which profiles there are, which is active, when each was chosen last. The document
//! stays as it was read, so keys that we do not know survive at every level, and 0.2.38 reads what we write.
//! Pure: knows no file and no lock (`store`), and no `CODEX_HOME`.

pub mod bindings;
pub mod file;
pub mod store;

#[cfg(test)]
pub mod scratch;

use crate::error::Error;
use crate::profile::{Profile, name};
use crate::wire::value::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const ACTIVE: &str = "active_profile";
const PROFILES: &str = "profiles";
const LAST_RUN: &str = "last_run_selected_at";
/// Their values name a profile in `profile_name`. Since 0.3 bindings live elsewhere (S-22); these are 0.2.38's.
const RESPONSES: &str = "response_profile_bindings";
const SESSIONS: &str = "session_profile_bindings";

const CODEX_HOME: &str = "codex_home";
const MANAGED: &str = "managed";
const EMAIL: &str = "email";
/// Ours since 0.3, absent while they say nothing.
const DISABLED: &str = "disabled";
const RESERVE: &str = "reserve_percent";
/// Nothing is left for fresh work at 100: that is what `disabled` is for.
const MAX_RESERVE: u8 = 99;

type Members = Vec<(String, Value)>;

/// The document, taken apart at its top level only.
#[derive(Debug, Clone)]
pub struct State {
    active: Value,
    profiles: Members,
    last_run: Members,
    responses: Members,
    sessions: Members,
    /// Members that we do not know, in their order.
    rest: Members,
}

impl Default for State {
    fn default() -> State {
        let none = Members::new;
        State {
            active: Value::Null,
            profiles: none(),
            last_run: none(),
            responses: none(),
            sessions: none(),
            rest: none(),
        }
    }
}

impl State {
    /// Fails with the reason (and the position, when the text is no JSON).
    pub fn parse(text: &[u8]) -> Result<State, String> {
        let document = Value::parse(text).map_err(|error| error.to_string())?;
        let Value::Object(members) = document else { return Err("not a JSON object".to_owned()) };
        let mut state = State::default();
        for (key, value) in members {
            let map = match key.as_str() {
                ACTIVE => {
                    state.active = value;
                    continue;
                }
                PROFILES => &mut state.profiles,
                LAST_RUN => &mut state.last_run,
                RESPONSES => &mut state.responses,
                SESSIONS => &mut state.sessions,
                _ => {
                    state.rest.push((key, value));
                    continue;
                }
            };
            match value {
                Value::Object(entries) => *map = entries,
                Value::Null => {}
                _ => return Err(format!("\"{key}\" is not an object")),
            }
        }
        Ok(state)
    }

    /// The text of the file: 0.2.38's keys in 0.2.38's order, its maps sorted, then everything else as it was.
    pub fn text(&self) -> String {
        let sorted = |map: &Members| {
            let mut map = map.clone();
            map.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
            Value::Object(map)
        };
        let mut members = vec![
            (ACTIVE.to_owned(), self.active.clone()),
            (PROFILES.to_owned(), sorted(&self.profiles)),
            (LAST_RUN.to_owned(), sorted(&self.last_run)),
            (RESPONSES.to_owned(), sorted(&self.responses)),
            (SESSIONS.to_owned(), sorted(&self.sessions)),
        ];
        members.extend(self.rest.iter().cloned());
        Value::Object(members).pretty()
    }

    pub fn active(&self) -> Option<String> {
        self.active.as_str().map(ToOwned::to_owned)
    }

    pub fn set_active(&mut self, name: Option<&str>) {
        self.active = name.map_or(Value::Null, Value::from);
    }

    /// Sorted by name; entries that cannot be used are in `problems` instead.
    pub fn profiles(&self) -> Vec<Profile> {
        let read: BTreeMap<&str, Profile> =
            self.profiles.iter().filter_map(|(name, entry)| Some((name.as_str(), read(name, entry).ok()?))).collect();
        read.into_values().collect()
    }

    pub fn profile(&self, name: &str) -> Option<Profile> {
        self.profiles().into_iter().find(|profile| profile.name == name)
    }

    /// Whether the name is taken, be it by an entry that cannot be used.
    pub fn has_entry(&self, name: &str) -> bool {
        self.profiles.iter().any(|(known, _)| known == name)
    }

    /// One sentence for each entry that was skipped.
    pub fn problems(&self) -> Vec<String> {
        let mut problems: Vec<String> = self
            .profiles
            .iter()
            .filter_map(|(name, entry)| Some(format!("profile '{name}' is ignored: {}", read(name, entry).err()?)))
            .collect();
        for (name, entry) in &self.profiles {
            let odd = |key| format!("\"{key}\" of profile '{name}' is ignored: it is not what prodex writes there");
            problems.extend(disabled(entry).is_err().then(|| odd(DISABLED)));
            problems.extend(reserve(entry).is_err().then(|| odd(RESERVE)));
        }
        if !matches!(self.active, Value::Null | Value::String(_)) {
            problems.push(format!("\"{ACTIVE}\" is ignored: it is no profile name"));
        }
        problems
    }

    /// Adds the profile, or updates the entry of that name and keeps what else is in it.
    pub fn insert(&mut self, profile: &Profile) -> Result<(), Error> {
        name::validate(&profile.name)?;
        let home = profile.codex_home.to_str().filter(|home| Path::new(home).is_absolute());
        let home = home.ok_or_else(|| {
            let path = profile.codex_home.display();
            Error::new(format!("cannot register {path}: a CODEX_HOME must be an absolute path in UTF-8"))
        })?;
        let mut known = vec![
            (CODEX_HOME.to_owned(), Value::from(home)),
            (MANAGED.to_owned(), Value::from(profile.managed)),
            (EMAIL.to_owned(), profile.email.as_deref().map_or(Value::Null, Value::from)),
        ];
        let before = self.profiles.iter().position(|(name, _)| *name == profile.name);
        let before = before.map_or(Value::Null, |index| self.profiles.remove(index).1);
        // One that means the same stays as it is, and with it what only a later version understands.
        let new_disabled = disabled(&before).unwrap_or_default() != profile.disabled;
        let new_reserve = reserve(&before).unwrap_or_default() != profile.reserve;
        let is_kept = |key: &str| match key {
            CODEX_HOME | MANAGED | EMAIL => false,
            DISABLED => !new_disabled,
            RESERVE => !new_reserve,
            _ => true,
        };
        known.extend(before.as_object().unwrap_or_default().iter().filter(|(key, _)| is_kept(key)).cloned());
        if new_disabled && profile.disabled {
            known.push((DISABLED.to_owned(), Value::from(true)));
        }
        if new_reserve && profile.reserve > 0 {
            known.push((RESERVE.to_owned(), Value::from(u64::from(profile.reserve))));
        }
        self.profiles.push((profile.name.clone(), Value::Object(known)));
        Ok(())
    }

    /// Forgets a profile and all that refers to it, but for `active`.
    pub fn remove(&mut self, name: &str) {
        for map in [&mut self.profiles, &mut self.last_run] {
            map.retain(|(key, _)| key != name);
        }
        for map in [&mut self.responses, &mut self.sessions] {
            let owner = |binding: &Value| binding.member("profile_name").and_then(Value::as_str) == Some(name);
            map.retain(|(_, binding)| !owner(binding));
        }
    }

    /// Unix seconds.
    pub fn last_run_selected_at(&self, name: &str) -> Option<u64> {
        self.last_run.iter().find(|(key, _)| key == name)?.1.as_u64()
    }

    pub fn set_last_run_selected_at(&mut self, name: &str, unix: u64) {
        self.last_run.retain(|(key, _)| key != name);
        self.last_run.push((name.to_owned(), Value::from(unix)));
    }
}

fn read(name: &str, entry: &Value) -> Result<Profile, String> {
    name::validate(name).map_err(|error| error.to_string())?;
    let home = entry.member(CODEX_HOME).and_then(Value::as_str).ok_or("its codex_home is missing")?;
    if !Path::new(home).is_absolute() || home.contains('\0') {
        return Err("its codex_home is not an absolute path".to_owned());
    }
    let managed = entry.member(MANAGED).and_then(Value::as_bool).ok_or("its \"managed\" is missing")?;
    let email = match entry.member(EMAIL) {
        None | Some(Value::Null) => None,
        Some(email) => Some(email.as_str().ok_or("its email is not text")?.to_owned()),
    };
    let (disabled, reserve) = (disabled(entry).unwrap_or_default(), reserve(entry).unwrap_or_default());
    Ok(Profile { name: name.to_owned(), codex_home: PathBuf::from(home), managed, email, disabled, reserve })
}

/// `Err`: there is something that says nothing to us.
fn disabled(entry: &Value) -> Result<bool, ()> {
    match entry.member(DISABLED) {
        None | Some(Value::Null) => Ok(false),
        Some(value) => value.as_bool().ok_or(()),
    }
}

fn reserve(entry: &Value) -> Result<u8, ()> {
    match entry.member(RESERVE) {
        None | Some(Value::Null) => Ok(0),
        Some(value) => {
            value.as_u64().and_then(|percent| u8::try_from(percent).ok()).filter(|p| *p <= MAX_RESERVE).ok_or(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What 0.2.38 wrote (original.md B), with keys that later versions and strangers added at every level.
    const SAMPLE: &str = r#"{
  "active_profile": "main",
  "profiles": {
    "main": {
      "codex_home": "/h/.prodex/profiles/main",
      "managed": true,
      "email": null,
      "provider": {
        "provider_kind": "openai"
      }
    },
    "second": {
      "codex_home": "/h/.prodex/profiles/second",
      "managed": true,
      "email": "second@example.com"
    }
  },
  "last_run_selected_at": {
    "main": 1795574904
  },
  "response_profile_bindings": {
    "resp_e54a9f6872fe4e03b4b2b23d8f85b471": {
      "profile_name": "main",
      "bound_at": 1795574904
    }
  },
  "session_profile_bindings": {
    "SESS-1": {
      "profile_name": "second",
      "bound_at": 1795575129
    }
  },
  "from_the_future": [
    1,
    2.50
  ]
}"#;

    fn profile(name: &str) -> Profile {
        Profile { name: name.into(), codex_home: format!("/h/{name}").into(), managed: false, ..Profile::default() }
    }

    #[test]
    fn a_file_of_0_2_38_comes_back_byte_for_byte() {
        let state = State::parse(SAMPLE.as_bytes()).unwrap();
        assert_eq!(state.text(), SAMPLE);
        assert_eq!(state.active().as_deref(), Some("main"));
        assert_eq!(state.profiles().iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["main", "second"]);
        assert_eq!(state.profile("second").unwrap().email.as_deref(), Some("second@example.com"));
        assert_eq!(state.last_run_selected_at("main"), Some(1_795_574_904));
        assert_eq!(state.last_run_selected_at("second"), None);
        assert!(state.problems().is_empty());
    }

    #[test]
    fn changes_touch_only_what_they_are_about() {
        let mut state = State::parse(SAMPLE.as_bytes()).unwrap();
        let mut main = state.profile("main").unwrap();
        main.email = Some("m@x".into());
        state.insert(&main).unwrap();
        assert_eq!(state.text(), SAMPLE.replacen("\"email\": null", "\"email\": \"m@x\"", 1));
        state.set_last_run_selected_at("second", 7);
        state.insert(&profile("a")).unwrap();
        state.set_active(None);
        let text = state.text();
        assert!(text.starts_with("{\n  \"active_profile\": null,\n  \"profiles\": {\n    \"a\": {"), "{text}");
        assert!(text.contains("\"main\": 1795574904,\n    \"second\": 7"), "{text}");
        state.remove("second");
        let text = state.text();
        assert!(!text.contains("second") && !text.contains("SESS-1") && text.contains("resp_e54"), "{text}");
        assert!(text.contains("from_the_future"));
    }

    #[test]
    fn disabled_and_reserve_are_there_only_while_they_say_something() {
        let mut state = State::parse(SAMPLE.as_bytes()).unwrap();
        let second = state.profile("second").unwrap();
        state.insert(&Profile { disabled: true, reserve: 20, ..second.clone() }).unwrap();
        let text = state.text();
        let members = "\"email\": \"second@example.com\",\n      \"disabled\": true,\n      \"reserve_percent\": 20\n";
        assert!(text.contains(members), "{text}");
        let mut again = State::parse(text.as_bytes()).unwrap();
        let read = again.profile("second").unwrap();
        assert_eq!((read.disabled, read.reserve), (true, 20));
        again.insert(&Profile { email: None, ..read }).unwrap();
        assert!(again.text().contains("\"disabled\": true"), "another change leaves them");
        again.insert(&second).unwrap();
        assert_eq!(again.text(), SAMPLE);
        // (member, disabled, reserve, problems)
        for (member, off, percent, problems) in [
            ("\"disabled\": null", false, 0, 0),
            ("\"disabled\": \"yes\"", false, 0, 1),
            ("\"reserve_percent\": 99", false, 99, 0),
            ("\"reserve_percent\": 100", false, 0, 1),
            ("\"reserve_percent\": -1, \"disabled\": true", true, 0, 1),
            ("\"reserve_percent\": [], \"disabled\": 1", false, 0, 2),
        ] {
            let text = SAMPLE.replacen("\"email\": null", &format!("\"email\": null, {member}"), 1);
            let mut state = State::parse(text.as_bytes()).unwrap();
            let main = state.profile("main").unwrap();
            assert_eq!((main.disabled, main.reserve, state.problems().len()), (off, percent, problems), "{member}");
            let before = state.text();
            state.insert(&main).unwrap();
            assert_eq!(state.text(), before, "what is not understood stays: {member}");
        }
    }

    #[test]
    fn an_empty_state_has_every_key_of_0_2_38() {
        let text = State::default().text();
        for key in [ACTIVE, PROFILES, LAST_RUN, RESPONSES, SESSIONS] {
            assert!(text.contains(&format!("\"{key}\"")), "{text}");
        }
        assert!(!text.ends_with('\n'));
        assert!(State::parse(text.as_bytes()).unwrap().profiles().is_empty());
    }

    #[test]
    fn a_broken_entry_is_skipped_reported_and_kept() {
        let text = r#"{"active_profile": 7, "profiles": {
            "../../etc": {"codex_home": "/x", "managed": true},
            "relative": {"codex_home": "x", "managed": true},
            "nothing": null,
            "unmanaged": {"codex_home": "/x"},
            "mail": {"codex_home": "/x", "managed": true, "email": 5},
            "ok": {"codex_home": "/x", "managed": true}}}"#;
        let mut state = State::parse(text.as_bytes()).unwrap();
        assert_eq!(state.profiles().len(), 1);
        assert_eq!(state.problems().len(), 6, "{:?}", state.problems());
        assert_eq!(state.active(), None);
        assert!(state.has_entry("nothing") && state.profile("nothing").is_none());
        state.insert(&profile("new")).unwrap();
        let again = State::parse(state.text().as_bytes()).unwrap();
        assert_eq!((again.problems().len(), again.profiles().len()), (6, 2));
    }

    #[test]
    fn what_is_no_state_is_an_error() {
        for text in ["", "{", "[]", "null", "{\"profiles\": []}", "{\"last_run_selected_at\": 1}", "\u{0}"] {
            assert!(State::parse(text.as_bytes()).is_err(), "{text:?}");
        }
        for cut in 0..SAMPLE.len() {
            assert!(State::parse(&SAMPLE.as_bytes()[..cut]).is_err(), "{cut}");
        }
        let mut state = State::default();
        assert!(state.insert(&profile("a/b")).is_err());
        assert!(state.insert(&Profile { codex_home: "relative".into(), ..profile("a") }).is_err());
    }
}
