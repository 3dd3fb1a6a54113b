//! Select and try, until something goes to codex or nobody is left (spec S-56). This is the loop, for every transport; the
//! rules are in `select`, `verdict`, `health` and `budget`.

use super::budget::{Allowance, Budget};
use super::credentials::Credential;
use super::journal::{Marker, Tag};
use super::renew::{self, Renewed};
use super::select::{self, Ask, Decision, HARD_CAP, Why};
use super::verdict::Trouble;
use super::{ProfileId, Shared, record};
use crate::net::NetError;
use crate::sys::clock;
use std::sync::Arc;

/// What one try came to.
pub enum Tried<T> {
    /// Codex gets this.
    Commit(T),
    /// Somebody else may do better. What came is kept: it may turn out to be the best there is.
    Trouble(Trouble, T),
    Failed(NetError),
    ClientGone,
}

/// What all tries together came to.
pub enum Outcome<T> {
    Won(ProfileId, T),
    /// Nobody did better than this: the backend's own words.
    Refused(ProfileId, T),
    /// No answer at all, with the last reason.
    Nobody(Option<NetError>),
    ClientGone,
}

/// Selects and tries until something goes to codex or nobody is left. `one` makes one try with a credential, within its
/// allowance.
pub fn run<T>(
    shared: &Shared,
    tag: Tag,
    ask: &mut Ask,
    attempts: &mut u32,
    mut one: impl FnMut(ProfileId, Arc<Credential>, &Allowance) -> Tried<T>,
) -> Outcome<T> {
    let mut budget = Budget::new(clock::now(), ask.owner.is_some() && !ask.movable);
    let mut refusals = Refusals::new(shared.launching);
    let mut last_error = None;
    // Whose login was made good during this request: once each.
    let mut renewed: Vec<ProfileId> = Vec::new();
    // A login that was made good is tried at once: the order may have changed meanwhile.
    let mut again = None;
    loop {
        let snapshot = shared.ledger.snapshot(tag.lane, &shared.wallet);
        let decision = again.take().unwrap_or_else(|| select::select(&snapshot, ask));
        let Decision::Use(id, why) = decision else { break };
        if !budget.take(clock::now()) {
            let elapsed = budget.elapsed(clock::now()).as_millis();
            let fields = format_args!("attempts={} elapsed_ms={elapsed}", budget.attempts());
            shared.journal.mark(tag, Marker::PrecommitBudgetExhausted, fields);
            break;
        }
        *attempts += 1;
        if shared.ledger.inflight(id) >= HARD_CAP {
            let fields = format_args!("profile={} hard_limit={HARD_CAP}", shared.name(id));
            shared.journal.mark(tag, Marker::InflightSaturated, fields);
        }
        note_candidate(shared, tag, id, why, ask);
        ask.tried.push(id);
        let Ok(credential) = shared.wallet.credential(id) else {
            record::trouble(shared, tag, &shared.ledger.ask_about(id), &Trouble::Unauthorized, 0);
            continue;
        };
        shared.seat(id, credential.account_id.as_deref());
        let trying = shared.ledger.ask_about(id);
        let token = credential.fingerprint;
        let others = (ask.owner.is_none() || ask.movable) && select::has_alternative(&snapshot, ask, id);
        let allowance = budget.allowance(clock::now(), tag.lane, others, shared.connections.pace());
        match one(id, Arc::clone(&credential), &allowance) {
            Tried::Commit(answer) => return Outcome::Won(id, answer),
            Tried::ClientGone => return Outcome::ClientGone,
            Tried::Failed(error) if error.client_gone() => return Outcome::ClientGone,
            Tried::Failed(error) => {
                let fields = format_args!("profile={} phase={} error={error}", shared.name(id), error.phase.name());
                shared.journal.mark(tag, Marker::UpstreamConnectError, fields);
                record::trouble(shared, tag, &trying, &Trouble::Transport, token);
                last_error = Some(error);
            }
            Tried::Trouble(Trouble::Unauthorized, answer) => {
                // Codex runs under the launching login and knows how to refresh it: it sees the refusal of a token once.
                // Another login's refusal is not for codex: it would refresh the wrong one (spec S-60).
                let codex_can_refresh = id == shared.launching && !shared.ledger.refused(id, token);
                let outcome =
                    if renewed.contains(&id) { Renewed::Never } else { renew::renew(shared, tag, id, &credential) };
                if outcome == Renewed::Yes {
                    renewed.push(id);
                    ask.tried.retain(|tried| *tried != id);
                    again = Some(Decision::Use(id, why));
                    continue;
                }
                let unsettled = outcome == Renewed::Later && id != shared.launching;
                let trouble = if unsettled { Trouble::LoginUnsettled } else { Trouble::Unauthorized };
                record::trouble(shared, tag, &trying, &trouble, token);
                if codex_can_refresh {
                    return Outcome::Won(id, answer);
                }
                refusals.keep(trouble, id, answer);
            }
            Tried::Trouble(trouble, answer) => {
                record::trouble(shared, tag, &trying, &trouble, token);
                if trouble == Trouble::ForeignContent && !back_to_owner(ask) {
                    return Outcome::Won(id, answer);
                }
                refusals.keep(trouble, id, answer);
            }
        }
    }
    shared.journal.mark(tag, Marker::CandidateExhausted, format_args!("tried={}", ask.tried.len()));
    refusals.told().unwrap_or(Outcome::Nobody(last_error))
}

/// What was refused so far: one of it codex is told where nobody serves.
struct Refusals<T> {
    launching: ProfileId,
    /// Codex reads its login again before it refreshes it, and asks in between with the token that was refused: where
    /// nobody else serves, it must hear of that again.
    of_login: Option<T>,
    best: Option<(Trouble, ProfileId, T)>,
}

impl<T> Refusals<T> {
    fn new(launching: ProfileId) -> Refusals<T> {
        Refusals { launching, of_login: None, best: None }
    }

    fn keep(&mut self, trouble: Trouble, id: ProfileId, answer: T) {
        match trouble {
            Trouble::Unauthorized | Trouble::LoginUnsettled if id == self.launching => self.of_login = Some(answer),
            // Another login's: codex would refresh its own.
            Trouble::Unauthorized | Trouble::LoginUnsettled => {}
            _ if self.best.as_ref().is_none_or(|(kept, ..)| trouble.better_than(kept)) => {
                self.best = Some((trouble, id, answer));
            }
            _ => {}
        }
    }

    fn told(self) -> Option<Outcome<T>> {
        let own = self.of_login.map(|answer| Outcome::Won(self.launching, answer));
        own.or_else(|| self.best.map(|(_, id, answer)| Outcome::Refused(id, answer)))
    }
}

/// The chain goes back to the account that encrypted its content, once; false when that was tried or is not known, so that
/// codex must hear of it.
fn back_to_owner(ask: &mut Ask) -> bool {
    let owner = ask.session.filter(|owner| !ask.tried.contains(owner));
    ask.owner = owner;
    ask.movable = false;
    owner.is_some()
}

fn note_candidate(shared: &Shared, tag: Tag, id: ProfileId, why: Why, ask: &Ask) {
    let pinned = ask.owner.map_or("None", |owner| shared.name(owner));
    shared.journal.mark(
        tag,
        Marker::Candidate,
        format_args!(
            "profile={0} why={why:?} candidate={0} pinned={pinned} excluded_count={1}",
            shared.name(id),
            ask.tried.len()
        ),
    );
    if why == Why::LastResort {
        shared.journal.mark(tag, Marker::DirectCurrentProfileFallback, format_args!("profile={}", shared.name(id)));
    }
}

pub fn exhausted(last: Option<&NetError>) -> String {
    match last {
        Some(error) => format!("prodex: {error}."),
        None => "prodex: no profile can serve this request: the logins were refused. Run `codex login` again in one of them.".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_refusal_codex_is_told() {
        let quota = |resets_at| Trouble::Quota { resets_at: Some(resets_at), retry_after: None };
        let overload = || Trouble::Overload { retry_after: None };
        // Codex runs under the first.
        let rows = [
            (vec![], "nothing"),
            (vec![(1, Trouble::Unauthorized)], "nothing"),
            (vec![(1, Trouble::LoginUnsettled)], "nothing"),
            (vec![(0, Trouble::Unauthorized)], "0 its login"),
            (vec![(0, Trouble::Unauthorized), (1, overload())], "0 its login"),
            (vec![(1, Trouble::Unauthorized), (0, quota(9))], "0 refused"),
            (vec![(0, quota(9)), (1, quota(5)), (2, quota(7))], "1 refused"),
            (vec![(0, quota(9)), (1, overload())], "1 refused"),
            (vec![(0, overload()), (1, quota(5))], "0 refused"),
            (vec![(0, Trouble::NotIncluded), (1, Trouble::NotIncluded)], "0 refused"),
        ];
        for (refused, expected) in rows {
            let mut refusals = Refusals::new(ProfileId(0));
            for (id, trouble) in refused.clone() {
                refusals.keep(trouble, ProfileId(id), id);
            }
            let told = match refusals.told() {
                None => "nothing".to_owned(),
                Some(Outcome::Won(id, answer)) if id.0 == answer => format!("{answer} its login"),
                Some(Outcome::Refused(id, answer)) if id.0 == answer => format!("{answer} refused"),
                Some(_) => "somebody else's words".to_owned(),
            };
            assert_eq!(told, expected, "{refused:?}");
        }
    }
}
