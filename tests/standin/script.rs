//! Who the accounts are and what each does next: queues of behaviours by kind of request. Knows no transport.

use super::behave::{Behave, Step};
use super::token;
use super::usage::Usage;
use std::collections::{BTreeMap, VecDeque};

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Usage,
    /// `wham/accounts/check`.
    Check,
    /// The WebSocket upgrade.
    Handshake,
    /// A WebSocket `response.create` with `generate:false`.
    Prewarm,
    /// Any other WebSocket `response.create`.
    Turn,
    /// POST …/responses.
    Post,
    /// POST …/responses/compact (older codex), or a create whose `request_kind` is `compaction`.
    Compact,
    Models,
    /// POST /oauth/token.
    Token,
    /// The path below the base URL; in a script, how it begins.
    Other(String),
}

/// What `accounts/check` tells about one account.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    pub origin: String,
    /// `NO_CONSTRAINT`, `us` or `us_cr`.
    pub routing: String,
}

impl Default for Check {
    fn default() -> Check {
        Check { origin: "NO_CONSTRAINT".to_owned(), routing: "NO_CONSTRAINT".to_owned() }
    }
}

#[derive(Debug, Clone, Default)]
pub struct Account {
    pub usage: Usage,
    pub check: Check,
    queues: BTreeMap<Kind, VecDeque<Step>>,
}

#[derive(Debug, Clone, Default)]
pub struct Script {
    pub accounts: BTreeMap<String, Account>,
    /// Bearer tokens beyond `tok-NAME` and the synthetic JWTs of `token.rs`.
    pub tokens: BTreeMap<String, String>,
    /// A response id is good only on the connection that issued it, as with `store:false` on the real WebSocket.
    pub ids_live_with_connection: bool,
    /// One line on stderr for each finished request.
    pub verbose: bool,
}

impl Script {
    /// Accounts in good health, each with room in its windows.
    pub fn new(names: &[&str]) -> Script {
        let accounts = names.iter().map(|name| ((*name).to_owned(), Account::default())).collect();
        Script { accounts, ..Script::default() }
    }

    /// Replaces what `name` does with requests of `kind`. Each step is used once, the last for ever unless it says
    /// how often; an exhausted queue means good health.
    pub fn on<S: Into<Step>>(mut self, name: &str, kind: Kind, steps: impl IntoIterator<Item = S>) -> Script {
        self.set(name, kind, steps);
        self
    }

    pub fn usage(mut self, name: &str, usage: Usage) -> Script {
        self.account(name).usage = usage;
        self
    }

    pub fn check(mut self, name: &str, origin: &str, routing: &str) -> Script {
        self.account(name).check = Check { origin: origin.to_owned(), routing: routing.to_owned() };
        self
    }

    /// Another bearer token of `name`.
    pub fn token(mut self, name: &str, token: &str) -> Script {
        self.tokens.insert(token.to_owned(), name.to_owned());
        self
    }

    pub fn set<S: Into<Step>>(&mut self, name: &str, kind: Kind, steps: impl IntoIterator<Item = S>) {
        self.account(name).queues.insert(kind, steps.into_iter().map(Into::into).collect());
    }

    pub fn account(&mut self, name: &str) -> &mut Account {
        self.accounts.entry(name.to_owned()).or_default()
    }

    /// Who a bearer token belongs to; `Err` says why it is not good.
    pub fn owner(&self, bearer: &str) -> Result<String, &'static str> {
        let name = if let Some(name) = self.tokens.get(bearer) {
            name.clone()
        } else if let Some(name) = bearer.strip_prefix("tok-") {
            name.to_owned()
        } else {
            let (account, expires) = token::read(bearer).ok_or("unknown token")?;
            if expires <= token::unix_now() {
                return Err("expired token");
            }
            account.strip_prefix("acct-").ok_or("unknown account")?.to_owned()
        };
        if self.accounts.contains_key(&name) { Ok(name) } else { Err("unknown account") }
    }

    /// Takes what `name` does with a request of `kind` now.
    pub fn next(&mut self, name: &str, kind: &Kind) -> Behave {
        let Some(account) = self.accounts.get_mut(name) else { return Behave::ok() };
        account.queue(kind).map_or_else(Behave::ok, take)
    }
}

impl Account {
    fn queue(&mut self, kind: &Kind) -> Option<&mut VecDeque<Step>> {
        let Kind::Other(path) = kind else { return self.queues.get_mut(kind) };
        self.queues
            .iter_mut()
            .filter_map(|(key, queue)| match key {
                Kind::Other(prefix) if path.starts_with(prefix.as_str()) => Some((prefix.len(), queue)),
                _ => None,
            })
            .max_by_key(|(length, _)| *length)
            .map(|(_, queue)| queue)
    }
}

fn take(queue: &mut VecDeque<Step>) -> Behave {
    loop {
        let only = queue.len() == 1;
        let Some(step) = queue.front_mut() else { return Behave::ok() };
        let behave = step.behave.clone();
        match &mut step.times {
            Some(left) if *left > 0 => *left -= 1,
            None if only => {}
            None => drop(queue.pop_front()),
            Some(_) => {
                queue.pop_front();
                continue;
            }
        }
        return behave;
    }
}
