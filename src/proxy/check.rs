//! `GET wham/accounts/check`: answered so that codex stays with its base URLs, and learned from, for every profile.
//! What an answer means is `workspace`'s.

use super::attempt::{self, Call, Sender};
use super::downstream::{Client, Upload, local_answer};
use super::exchange::Ended;
use super::journal::{Marker, Tag};
use super::route::Route;
use super::workspace::{self, Placement};
use super::{ProfileId, Shared, relay};
use crate::net::fetch;
use crate::sys::clock;
use crate::wire::head::{self, Edit, Request};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const CHECK_PATH: &str = "/wham/accounts/check";
/// Codex gives up after 15 s; a profile that is asked for in the middle of a rotation must not wait so long.
const OWN_LIMIT: Duration = Duration::from_secs(3);
const CODEX_LIMIT: Duration = Duration::from_secs(10);
/// A backend that could not be asked is asked again after this.
const RETRY: Duration = Duration::from_secs(60);
const MAX_ANSWER: usize = 1024 * 1024;

/// What is known of each profile. The lock of one is held while it is asked for: one question at a time.
pub struct Placements {
    slots: Vec<Mutex<Option<Known>>>,
}

/// A placement, and when to ask again if the backend could not be asked.
type Known = (Placement, Option<Instant>);

impl Placements {
    pub fn new(profiles: usize) -> Placements {
        Placements { slots: (0..profiles).map(|_| Mutex::new(None)).collect() }
    }

    fn learn(&self, id: ProfileId, placement: Placement) {
        if let Some(slot) = self.slots.get(usize::from(id.0)) {
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some((placement, None));
        }
    }
}

/// Where `id`'s model requests go; asks the backend when that is not known yet.
pub fn placement(shared: &Shared, id: ProfileId) -> Placement {
    let Some(slot) = shared.placements.slots.get(usize::from(id.0)) else { return Placement::default() };
    let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
    match &*slot {
        Some((placement, None)) => return placement.clone(),
        Some((placement, Some(until))) if *until > clock::now() => return placement.clone(),
        _ => {}
    }
    let asked = ask(shared, id);
    let known = match asked {
        Some(placement) => (placement, None),
        None => (Placement::default(), Some(clock::now() + RETRY)),
    };
    if known.0 != Placement::default() {
        let origin = known.0.origin.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
        shared
            .journal
            .note(Marker::Workspace, format_args!("profile={} origin={origin} us={}", shared.name(id), known.0.us));
    }
    slot.insert(known).0.clone()
}

/// So that a rotation pays no question. The launching profile's is asked by codex itself.
pub fn learn_in_background(shared: &Arc<Shared>) {
    let shared = Arc::clone(shared);
    // Without the thread each is asked when it is first needed.
    let _ = std::thread::Builder::new().name("workspaces".to_owned()).spawn(move || {
        for id in shared.ids().filter(|id| *id != shared.launching) {
            placement(&shared, id);
        }
    });
}

/// `None`: no answer that says anything, ask again later.
fn ask(shared: &Shared, id: ProfileId) -> Option<Placement> {
    let credential = shared.wallet.credential(id).ok()?;
    let mut url = shared.base.clone();
    url.path = super::route::upstream_target(&shared.base, CHECK_PATH);
    let mut headers = vec![("Authorization", credential.authorization.as_str()), ("User-Agent", "codex-cli")];
    if let Some(account) = &credential.account_id {
        headers.push(("ChatGPT-Account-Id", account));
    }
    let answer = fetch::get(&url, &headers, clock::now() + OWN_LIMIT, MAX_ANSWER).ok()?;
    match answer.status {
        200 => Some(workspace::placement(&answer.body, credential.account_id.as_deref())),
        // A backend without the route has no constraint; a refused login or a bad moment says nothing.
        404 => Some(Placement::default()),
        _ => None,
    }
}

/// Codex asks: with its own credentials, and gets an answer that it can work with.
pub fn serve(shared: &Shared, client: &mut Client, request: &Request, route: &Route, tag: Tag) -> Ended {
    let account = request.headers().value("chatgpt-account-id");
    let Ok(mut upload) = Upload::new(request) else { return Ended::Close };
    let call = Call { request, route, sender: Sender::Codex, drop_turn_state: false };
    let asked = attempt::http(shared, &call, &mut upload, client, CODEX_LIMIT)
        .and_then(|answer| relay::collect(answer, shared, CODEX_LIMIT));
    let answer = match asked {
        Ok(answer) => answer,
        Err(error) if error.client_gone() => return Ended::Close,
        Err(error) => {
            shared.journal.mark(tag, Marker::UpstreamConnectError, format_args!("path={} error={error}", route.path));
            return answer_with(shared, client, account);
        }
    };
    match answer.head.status() {
        200 => {
            // Codex runs under the launching profile; an account of another id than ours is not one to learn from.
            let launching = shared.wallet.credential(shared.launching).ok();
            if launching.is_some_and(|known| known.account_id.as_deref() == account) {
                shared.placements.learn(shared.launching, workspace::placement(&answer.body, account));
            }
            match workspace::rewrite(&answer.body, account) {
                Some(body) => write(client, &answer.head, &body),
                None => answer_with(shared, client, account),
            }
        }
        // Its own login was refused: codex knows how to refresh it.
        401 => write(client, &answer.head, &answer.body),
        _ => answer_with(shared, client, account),
    }
}

/// The backend's head, another body.
fn write(client: &mut Client, head: &head::Response, body: &[u8]) -> Ended {
    let length = body.len().to_string();
    let mut out = Vec::with_capacity(body.len() + 512);
    let edit = |name: &str, value: &[u8]| match name {
        _ if head::is_hop_by_hop(head.headers(), name) => Edit::Drop,
        _ if ["content-length", "transfer-encoding", "trailer"].iter().any(|n| n.eq_ignore_ascii_case(name)) => {
            Edit::Drop
        }
        _ if name.eq_ignore_ascii_case("set-cookie") && super::cookies::is_kept(value) => Edit::Drop,
        _ => Edit::Keep,
    };
    head::write_response(&mut out, head, edit, &[("content-length", length.as_bytes())]);
    out.extend_from_slice(body);
    Ended::after(client.write_all(&out).is_ok())
}

fn answer_with(shared: &Shared, client: &mut Client, account: Option<&str>) -> Ended {
    let Some(account) = account else {
        let answer = local_answer(404, "not_found", "No account is named in the request.");
        let _ = client.write_all(&answer);
        return Ended::Close;
    };
    let body = workspace::made_up(account);
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
    shared.journal.note(Marker::Workspace, format_args!("accounts_check=made_up"));
    Ended::after(client.write_all(&[head.as_bytes(), &body].concat()).is_ok())
}
