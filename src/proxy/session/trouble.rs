//! A turn that its account does not serve: it is asked again elsewhere, or the socket ends so that codex comes back, or codex
//! gets the backend's own words (spec S-59; `wire.md` 0.6, 3.5).

use super::{Over, Session};
use crate::proxy::affinity::Key;
use crate::proxy::dial::{self, Dialled, Link};
use crate::proxy::journal::Marker;
use crate::proxy::renew::{self, Renewed};
use crate::proxy::rotate::Outcome;
use crate::proxy::select::Ask;
use crate::proxy::turn::{self, Remedy, Turn};
use crate::proxy::verdict::Trouble;
use crate::proxy::{ProfileId, record};
use crate::sys::clock;

/// The sixth failure of a turn ends WebSocket for its thread in codex (`wire.md` 3.7): it must not be us.
const MAX_BOUNCES: u32 = 4;

/// What the search for another profile came to.
pub(super) enum Another {
    Link(Box<Link>),
    /// Somebody who is not out, and answers a handshake with something else than a socket (426).
    NoSocket,
    Nobody,
}

impl Session<'_> {
    /// The upstream is gone or talks nonsense.
    pub(super) fn upstream_broke(&mut self) -> Result<(), Over> {
        match &mut self.turn {
            _ if self.closing => Err(Over::Upstream),
            Turn::Waiting(waiting) if self.link.turns > 0 && waiting.heard_since.is_none() => {
                // An old connection that ended while it was idle: nobody's fault, the same profile is asked anew.
                if !waiting.may_replay() {
                    return Err(Over::Upstream);
                }
                let mut ask =
                    Ask { session: Some(self.link.id), movable: true, tried: waiting.tried.clone(), owner: None };
                match self.another(&mut ask)? {
                    Another::Link(link) => {
                        self.replay(*link);
                        Ok(())
                    }
                    Another::NoSocket | Another::Nobody => Err(Over::Upstream),
                }
            }
            Turn::Waiting(_) => self.trouble(&Trouble::Transport, &[]),
            Turn::Open { .. } => {
                let name = self.shared.name(self.link.id);
                self.shared.journal.mark(self.tag, Marker::StreamReadError, format_args!("profile={name}"));
                self.record(&Trouble::Transport);
                Err(Over::Upstream)
            }
            Turn::Idle | Turn::Asking(_) => Err(Over::Upstream),
        }
    }

    /// This account does not serve the turn, and codex has heard no output: the turn moves if it can. `message` is what
    /// the upstream said of it, as frames.
    pub(super) fn trouble(&mut self, trouble: &Trouble, message: &[u8]) -> Result<(), Over> {
        let id = self.link.id;
        let (trouble, renewed) = self.settled(trouble);
        if !renewed {
            self.record(&trouble);
        }
        let trouble = &trouble;
        let Turn::Waiting(waiting) = &mut self.turn else { return Ok(()) };
        if renewed {
            waiting.renewed.push(id);
        } else {
            waiting.tried.push(id);
        }
        let said = [waiting.held.as_slice(), message].concat();
        // Another login's refusal is not for codex (spec S-60).
        if !matches!(trouble, Trouble::Unauthorized | Trouble::LoginUnsettled) || id == self.shared.launching {
            waiting.keep_refusal(trouble, said);
        }
        // Only the account that encrypted it can read what is foreign to another.
        let owner = self.opening.session.and_then(|session| self.shared.ledger.owner(Key::Session(session)));
        let owner = owner.filter(|owner| !waiting.tried.contains(owner));
        let who = match turn::remedy(trouble, self.closing, waiting.may_replay(), owner.is_some()) {
            Remedy::None => return self.pass_on(trouble),
            Remedy::AskOwner | Remedy::BackToOwner => Ask { owner, ..Ask::default() },
            Remedy::AskOthers | Remedy::BackToOthers => Ask { movable: true, ..Ask::default() },
        };
        let mut ask = Ask { tried: waiting.tried.clone(), ..who };
        let elsewhere = if waiting.may_replay() {
            match self.another(&mut ask)? {
                Another::Link(link) => {
                    self.replay(*link);
                    return Ok(());
                }
                // Codex comes back, hears that answer to its handshake, and goes on over HTTP.
                Another::NoSocket => true,
                Another::Nobody => false,
            }
        } else {
            self.shared.ledger.has_alternative(&ask, id, &self.shared.wallet)
        };
        if elsewhere && self.bounces(trouble.name()) {
            return Err(Over::Bounced);
        }
        self.pass_on(trouble)
    }

    /// What the log and the memory take of a turn that its profile did not serve.
    pub(super) fn record(&self, trouble: &Trouble) {
        if let Some((_, serving)) = &self.place {
            record::trouble(self.shared, self.tag, serving, trouble, self.link.token);
        }
    }

    /// A refused login is refreshed, where that is ours to do; true when the same account can be asked again, which is once
    /// in a turn.
    fn settled(&self, trouble: &Trouble) -> (Trouble, bool) {
        if matches!(&self.turn, Turn::Waiting(waiting) if waiting.renewed.contains(&self.link.id)) {
            return (trouble.clone(), false);
        }
        let credential = self.shared.wallet.credential(self.link.id);
        let (Trouble::Unauthorized, Ok(credential)) = (trouble, credential) else { return (trouble.clone(), false) };
        if credential.fingerprint != self.link.token {
            return (Trouble::LoginUnsettled, true);
        }
        match renew::renew(self.shared, self.tag, self.link.id, &credential) {
            Renewed::Yes => (Trouble::LoginUnsettled, true),
            Renewed::Later => (Trouble::LoginUnsettled, false),
            Renewed::Never => (Trouble::Unauthorized, false),
        }
    }

    /// Nobody does better: codex gets the backend's own words, or the break that it was.
    fn pass_on(&mut self, trouble: &Trouble) -> Result<(), Over> {
        self.place = None;
        let id = self.link.id;
        let Turn::Waiting(waiting) = std::mem::replace(&mut self.turn, Turn::Idle) else { return Ok(()) };
        match waiting.refusal {
            Some((_, said)) => {
                self.shared.journal.mark(
                    self.tag,
                    Marker::Committed,
                    format_args!("profile={} refusal=true", self.shared.name(id)),
                );
                self.io.to_client.push(&said);
                self.lap_ends("refused");
                if *trouble == Trouble::Transport { Err(Over::Upstream) } else { Ok(()) }
            }
            None => Err(Over::Upstream),
        }
    }

    /// The socket is to end so that codex comes back with its full input, unless it was sent away often enough.
    pub(super) fn bounces(&self, reason: &str) -> bool {
        // Without a session the count has nowhere to stay: one socket, one bounce, and codex's own limit.
        let may = self.opening.session.is_none_or(|session| self.shared.ledger.bounce(session, MAX_BOUNCES));
        if may {
            let name = self.shared.name(self.link.id);
            self.shared.journal.mark(self.tag, Marker::WebsocketBounce, format_args!("profile={name} reason={reason}"));
        }
        may
    }

    /// A link with another profile, by the rules of `ask`.
    pub(super) fn another(&mut self, ask: &mut Ask) -> Result<Another, Over> {
        let mut attempts = 0;
        let outcome = dial::open(self.shared, self.client, self.opening, ask, self.tag, &mut attempts);
        if let Some((trace, _)) = &mut self.lap {
            trace.attempts += attempts;
        }
        if let Turn::Waiting(waiting) = &mut self.turn {
            waiting
                .tried
                .extend(ask.tried.iter().filter(|id| !waiting.tried.contains(id)).copied().collect::<Vec<ProfileId>>());
        }
        match outcome {
            Outcome::Won(_, Dialled::Open(link, _)) => Ok(Another::Link(link)),
            Outcome::Won(_, Dialled::Answer(_)) => Ok(Another::NoSocket),
            Outcome::ClientGone => Err(Over::Client),
            Outcome::Refused(..) | Outcome::Nobody(_) => Ok(Another::Nobody),
        }
    }

    fn replay(&mut self, link: Link) {
        let name = self.shared.name(link.id).to_owned();
        self.switch(link);
        let Turn::Waiting(waiting) = &mut self.turn else { return };
        waiting.start_over(self.link.id, clock::now());
        if let Some(message) = waiting.message.clone() {
            let repeated = waiting.repeated_state.clone();
            self.send(message, repeated.as_deref());
        }
        self.shared.journal.mark(self.tag, Marker::WebsocketReplay, format_args!("profile={name}"));
    }
}
