//! 0.2.38's maps in `state.json`: which response and which session belongs to which profile. Read for what was begun under
//! 0.2.38, and kept up for who goes back to it; our own bindings live elsewhere (spec S-22). Pure.

use super::{Members, State};
use crate::wire::value::Value;
use std::collections::HashMap;

const PROFILE: &str = "profile_name";
const BOUND_AT: &str = "bound_at";

/// Which of the two maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Map {
    Responses,
    Sessions,
}

/// One entry of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owned<'a> {
    pub id: &'a str,
    pub profile: &'a str,
    /// Unix seconds; 0 when the file does not say.
    pub bound_at: u64,
}

impl State {
    /// In the order of the file; entries that name no profile are left out.
    pub fn bindings(&self, map: Map) -> impl Iterator<Item = Owned<'_>> {
        let members = match map {
            Map::Responses => &self.responses,
            Map::Sessions => &self.sessions,
        };
        members.iter().filter_map(|(id, entry)| {
            let profile = entry.member(PROFILE)?.as_str()?;
            Some(Owned { id, profile, bound_at: bound_at(entry) })
        })
    }

    pub fn has_bindings(&self) -> bool {
        !self.responses.is_empty() || !self.sessions.is_empty()
    }

    /// Puts `new` into the map where it knows nothing younger, then keeps the `limit` youngest entries.
    pub fn bind<'a>(&mut self, map: Map, new: impl Iterator<Item = Owned<'a>>, limit: usize) {
        let members = match map {
            Map::Responses => &mut self.responses,
            Map::Sessions => &mut self.sessions,
        };
        let mut places: HashMap<String, usize> =
            members.iter().enumerate().map(|(place, (id, _))| (id.clone(), place)).collect();
        for Owned { id, profile, bound_at: at } in new {
            if let Some((_, known)) = places.get(id).and_then(|&place| members.get_mut(place)) {
                if bound_at(known) <= at {
                    known.set(PROFILE, Value::from(profile));
                    known.set(BOUND_AT, Value::from(at));
                }
                continue;
            }
            places.insert(id.to_owned(), members.len());
            let entry = vec![(PROFILE.to_owned(), Value::from(profile)), (BOUND_AT.to_owned(), Value::from(at))];
            members.push((id.to_owned(), Value::Object(entry)));
        }
        prune(members, limit);
    }
}

fn bound_at(entry: &Value) -> u64 {
    entry.member(BOUND_AT).and_then(Value::as_u64).unwrap_or(0)
}

/// The oldest go, as 0.2.38 does it.
fn prune(members: &mut Members, limit: usize) {
    let surplus = members.len().saturating_sub(limit);
    if surplus > 0 {
        members.sort_unstable_by_key(|(_, entry)| bound_at(entry));
        members.drain(..surplus);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = r#"{"response_profile_bindings": {
        "r1": {"profile_name": "main", "bound_at": 10, "more": 1},
        "r2": {"profile_name": "main", "bound_at": "soon"},
        "r3": {"profile_name": 7, "bound_at": 30}, "r4": null},
      "session_profile_bindings": {"s1": {"profile_name": "second", "bound_at": 20}}}"#;

    fn owned<'a>(id: &'a str, profile: &'a str, bound_at: u64) -> Owned<'a> {
        Owned { id, profile, bound_at }
    }

    #[test]
    fn reads_what_names_a_profile() {
        let state = State::parse(SAMPLE.as_bytes()).unwrap();
        let responses: Vec<Owned> = state.bindings(Map::Responses).collect();
        assert_eq!(responses, [owned("r1", "main", 10), owned("r2", "main", 0)]);
        let sessions: Vec<Owned> = state.bindings(Map::Sessions).collect();
        assert_eq!(sessions, [owned("s1", "second", 20)]);
        assert!(state.has_bindings() && !State::default().has_bindings());
    }

    #[test]
    fn the_younger_entry_wins_and_unknown_keys_stay() {
        let mut state = State::parse(SAMPLE.as_bytes()).unwrap();
        let new = [owned("r1", "second", 11), owned("r5", "main", 50), owned("r5", "second", 49)];
        state.bind(Map::Responses, new.into_iter(), 100);
        state.bind(Map::Sessions, [owned("s1", "main", 19)].into_iter(), 100);
        let text = state.text();
        assert!(text.contains("\"more\": 1"), "{text}");
        let state = State::parse(text.as_bytes()).unwrap();
        let of =
            |map, id| state.bindings(map).find(|entry| entry.id == id).map(|entry| (entry.profile, entry.bound_at));
        assert_eq!(of(Map::Responses, "r1"), Some(("second", 11)));
        assert_eq!(of(Map::Responses, "r5"), Some(("main", 50)));
        assert_eq!(of(Map::Sessions, "s1"), Some(("second", 20)));
    }

    #[test]
    fn the_oldest_go_first() {
        let mut state = State::parse(SAMPLE.as_bytes()).unwrap();
        let new = [owned("a", "main", 5), owned("b", "main", 60), owned("c", "main", 70)];
        state.bind(Map::Responses, new.into_iter(), 3);
        let mut left: Vec<&str> = state.responses.iter().map(|(id, _)| id.as_str()).collect();
        left.sort_unstable();
        assert_eq!(left, ["b", "c", "r3"]);
    }
}
