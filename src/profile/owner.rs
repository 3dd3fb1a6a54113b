//! Which registered profile is an account's: the one that a new login of it updates, and the one beside which there must be
//! no second copy of its login. Reads the homes, changes nothing.

use super::Profile;
use super::auth::{self, Auth};
use super::identity::{Identity, Likeness};
use crate::state::State;

/// The profile that is this account, logged in or not: of a home without a login the registry remembers the e-mail, which
/// says nothing any more where a login of another kind is. The surest, then the active one.
pub fn owner(state: &State, identity: &Identity) -> Option<Profile> {
    let active = state.active();
    let alike = alike(state, identity, |profile| profile.email.as_deref());
    let rank = |(likeness, profile): &(Likeness, Profile)| (*likeness, active.as_deref() != Some(&profile.name));
    alike.min_by_key(rank).map(|(_, profile)| profile)
}

/// A profile whose home holds a login of this account now.
pub fn holder(state: &State, identity: &Identity) -> Option<Profile> {
    alike(state, identity, |_| None).next().map(|(_, profile)| profile)
}

fn alike(
    state: &State,
    identity: &Identity,
    remembered: impl Fn(&Profile) -> Option<&str>,
) -> impl Iterator<Item = (Likeness, Profile)> {
    state.profiles().into_iter().filter_map(move |profile| {
        let auth = auth::read(&profile.codex_home);
        let is_other = matches!(auth, Auth::ApiKey | Auth::Other(_));
        let theirs = Identity::of(&auth, remembered(&profile).filter(|_| !is_other));
        Some((identity.likeness(&theirs)?, profile))
    })
}
