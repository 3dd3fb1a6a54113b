//! Which profile serves this request: one pure function over a snapshot (spec S-54 to S-56).
//! Knows no locks, no clock and no network.

use super::ProfileId;
use super::health::Usable;
use std::time::Instant;

/// What selection sees of one profile. The order of the list is the scheduler's (`quota::schedule`): best first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub id: ProfileId,
    pub usable: Usable,
    /// Why it is not usable may be out of date: only other runs say so, or codex itself can mend it.
    pub doubtful: bool,
    /// The user keeps back what is left of it: for its owner's chains, and for when all are kept back.
    pub held: bool,
    /// Of this lane; 0 is a clean record.
    pub penalty: u32,
    /// Exchanges in progress, over all of the user's runs.
    pub inflight: u32,
}

/// From so many exchanges on one profile others are preferred, where they are as good.
pub const SOFT_CAP: u32 = 8;
/// So many keep fresh work out, until nobody else is left.
pub const HARD_CAP: u32 = 64;

#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The launching profile, until it could no longer serve and another one did.
    pub current: ProfileId,
    pub candidates: Vec<Candidate>,
}

/// What a request wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ask {
    /// Belongs to that profile by `previous_response_id`, turn state or, on session-scoped routes, the session.
    pub owner: Option<ProfileId>,
    /// The owner may be left when it refused: the request carries its full input.
    pub movable: bool,
    /// Where this session was last served: its prompt cache is there.
    pub session: Option<ProfileId>,
    /// Profiles that were tried for this request already.
    pub tried: Vec<ProfileId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    Owner,
    Session,
    Current,
    Best,
    /// Only backoffs stood against everybody: one direct try, so that the backend's own words decide.
    LastResort,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    Use(ProfileId, Why),
    /// Nobody is left to try.
    Refuse,
}

pub fn select(snapshot: &Snapshot, ask: &Ask) -> Decision {
    let untried = |id: &ProfileId| !ask.tried.contains(id);
    if let Some(owner) = ask.owner {
        if untried(&owner) {
            return Decision::Use(owner, Why::Owner);
        }
        if !ask.movable {
            return Decision::Refuse;
        }
    }
    let of = |id: ProfileId| snapshot.candidates.iter().find(|candidate| candidate.id == id);
    let free = |candidate: &&Candidate| is_free(candidate, ask);
    if let Some(session) = ask.session.and_then(of).filter(free) {
        return Decision::Use(session.id, Why::Session);
    }
    let best = snapshot.candidates.iter().enumerate().filter(|(_, candidate)| free(candidate)).min_by_key(
        |(place, candidate)| {
            (candidate.penalty, candidate.inflight / SOFT_CAP, candidate.id != snapshot.current, *place)
        },
    );
    if let Some((_, best)) = best {
        let why = if best.id == snapshot.current { Why::Current } else { Why::Best };
        return Decision::Use(best.id, why);
    }
    if ask.tried.is_empty() {
        return Decision::Use(last_resort(snapshot), Why::LastResort);
    }
    // What others say may be out of date: before nobody is left, it is put to the test.
    let doubtful = snapshot.candidates.iter().find(|candidate| untried(&candidate.id) && candidate.doubtful);
    doubtful.map_or(Decision::Refuse, |candidate| Decision::Use(candidate.id, Why::LastResort))
}

/// Whether somebody else than `than` could serve this now: not just a last resort.
pub fn has_alternative(snapshot: &Snapshot, ask: &Ask, than: ProfileId) -> bool {
    snapshot.candidates.iter().any(|candidate| candidate.id != than && is_free(candidate, ask))
}

/// Takes fresh work, and was not tried for this request.
fn is_free(candidate: &Candidate, ask: &Ask) -> bool {
    !ask.tried.contains(&candidate.id)
        && candidate.usable == Usable::Yes
        && !candidate.held
        && candidate.inflight < HARD_CAP
}

/// Whose backoff ends first; a refused login comes last.
fn last_resort(snapshot: &Snapshot) -> ProfileId {
    let free_at = |candidate: &Candidate| match candidate.usable {
        // Only its load stood against it.
        Usable::Yes => (0, None::<Instant>, candidate.inflight),
        Usable::After(until) => (1, Some(until), 0),
        Usable::LoginNeeded => (2, None, 0),
    };
    // The current profile wins a tie.
    // One that is out answers in the backend's own words; one that is kept back would answer at the user's cost.
    let order = |candidate: &&Candidate| (candidate.held, free_at(candidate), candidate.id != snapshot.current);
    snapshot.candidates.iter().min_by_key(order).map_or(snapshot.current, |candidate| candidate.id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const A: ProfileId = ProfileId(0);
    const B: ProfileId = ProfileId(1);
    const C: ProfileId = ProfileId(2);

    fn snapshot(usable: [Usable; 3]) -> Snapshot {
        let candidates = [A, B, C]
            .into_iter()
            .zip(usable)
            .map(|(id, usable)| Candidate { id, usable, doubtful: false, held: false, penalty: 0, inflight: 0 })
            .collect();
        Snapshot { current: A, candidates }
    }

    #[test]
    fn what_is_kept_back_is_used_last_and_by_its_owner() {
        let after = Usable::After(Instant::now() + Duration::from_secs(5));
        // (kept back, usable, owner, who)
        for (held, usable, owner, wanted) in [
            ([true, false, false], [Usable::Yes; 3], None, Decision::Use(B, Why::Best)),
            ([true, false, false], [Usable::Yes, after, after], None, Decision::Use(B, Why::LastResort)),
            ([true, true, true], [Usable::Yes; 3], None, Decision::Use(A, Why::LastResort)),
            ([true, false, false], [Usable::Yes; 3], Some(A), Decision::Use(A, Why::Owner)),
        ] {
            let mut all = snapshot(usable);
            for (candidate, held) in all.candidates.iter_mut().zip(held) {
                candidate.held = held;
            }
            assert_eq!(select(&all, &Ask { owner, ..Ask::default() }), wanted, "{held:?} {usable:?}");
        }
    }

    #[test]
    fn decisions() {
        use Decision::{Refuse, Use};
        use Usable::{LoginNeeded, Yes};
        let t0 = Instant::now();
        let soon = Usable::After(t0 + Duration::from_secs(1));
        let late = Usable::After(t0 + Duration::from_secs(9));
        let fresh = Ask::default();
        let of = |owner, movable, tried: &[ProfileId]| Ask {
            owner: Some(owner),
            movable,
            tried: tried.to_vec(),
            session: None,
        };
        let session = |id| Ask { session: Some(id), ..Ask::default() };
        let tried = |ids: &[ProfileId]| Ask { tried: ids.to_vec(), ..Ask::default() };
        let table = [
            ("current first", [Yes, Yes, Yes], fresh.clone(), Use(A, Why::Current)),
            ("the best when the current is out", [late, Yes, Yes], fresh.clone(), Use(B, Why::Best)),
            ("a session stays where its cache is", [Yes, Yes, Yes], session(C), Use(C, Why::Session)),
            ("unless it is out there", [Yes, Yes, late], session(C), Use(A, Why::Current)),
            ("an owner whatever its state", [Yes, LoginNeeded, Yes], of(B, false, &[]), Use(B, Why::Owner)),
            ("a chain that cannot move ends with its owner", [Yes, Yes, Yes], of(B, false, &[B]), Refuse),
            ("full input moves on", [Yes, Yes, Yes], of(B, true, &[B]), Use(A, Why::Current)),
            ("tried ones are not tried again", [Yes, Yes, Yes], tried(&[A]), Use(B, Why::Best)),
            ("nobody left", [Yes, Yes, Yes], tried(&[A, B, C]), Refuse),
            (
                "one direct try when all back off: the soonest",
                [late, soon, LoginNeeded],
                fresh.clone(),
                Use(B, Why::LastResort),
            ),
            ("but not after a real refusal", [late, soon, late], tried(&[A]), Refuse),
            ("a tie goes to the current", [soon, soon, soon], fresh.clone(), Use(A, Why::LastResort)),
            ("a refused login is the last of all", [LoginNeeded, late, LoginNeeded], fresh, Use(B, Why::LastResort)),
        ];
        for (name, usable, ask, decision) in table {
            assert_eq!(select(&snapshot(usable), &ask), decision, "{name}");
        }
    }
    #[test]
    fn load_and_penalties_move_fresh_work_only() {
        let mut s = snapshot([Usable::Yes; 3]);
        let fresh = Ask::default();
        let mut pick = |loads: [(u32, u32); 3], ask: &Ask| {
            for (candidate, (penalty, inflight)) in s.candidates.iter_mut().zip(loads) {
                candidate.penalty = penalty;
                candidate.inflight = inflight;
            }
            select(&s, ask)
        };
        assert_eq!(pick([(0, 7), (0, 0), (0, 0)], &fresh), Decision::Use(A, Why::Current), "below the soft cap");
        assert_eq!(pick([(0, 8), (0, 0), (0, 0)], &fresh), Decision::Use(B, Why::Best));
        assert_eq!(pick([(0, 8), (0, 9), (0, 8)], &fresh), Decision::Use(A, Why::Current), "all alike: stay");
        assert_eq!(pick([(4, 0), (2, 0), (0, 9)], &fresh), Decision::Use(C, Why::Best), "a clean record first");
        let session = Ask { session: Some(A), ..Ask::default() };
        assert_eq!(pick([(4, 20), (0, 0), (0, 0)], &session), Decision::Use(A, Why::Session), "its cache is there");
        assert_eq!(pick([(0, 64), (0, 0), (0, 0)], &session), Decision::Use(B, Why::Best));
        assert_eq!(
            pick([(0, 70), (0, 66), (0, 80)], &fresh),
            Decision::Use(B, Why::LastResort),
            "nobody is free: the least loaded"
        );
        let owner = Ask { owner: Some(A), ..Ask::default() };
        let mut doubted = snapshot([Usable::Yes, Usable::LoginNeeded, Usable::LoginNeeded]);
        doubted.candidates[2].doubtful = true;
        let tried = Ask { tried: vec![A], ..Ask::default() };
        assert_eq!(select(&doubted, &tried), Decision::Use(C, Why::LastResort), "what is doubtful is put to the test");
        assert_eq!(pick([(16, 99), (0, 0), (0, 0)], &owner), Decision::Use(A, Why::Owner));
    }
}
