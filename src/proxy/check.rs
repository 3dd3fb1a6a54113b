//! Codex asks `GET wham/accounts/check`: answered so that it stays with its base URLs (`wire.md` 0.2 F), and learned from.
//! What an answer means is `workspace`'s.

use super::attempt::{self, Call, Sender};
use super::budget::Allowance;
use super::deliver::{Ended, Trace};
use super::downstream::{Client, Upload, local_answer};
use super::journal::Marker;
use super::route::Route;
use super::{Shared, exchange, relay, workspace};
use crate::wire::head::{Request, Response};
use std::time::Duration;

const CODEX_LIMIT: Duration = Duration::from_secs(10);

/// Codex asks: with its own credentials, and gets an answer that it can work with.
pub fn serve(
    shared: &Shared,
    client: &mut Client,
    request: &Request,
    route: &Route,
    upload: &mut Upload,
    trace: &Trace,
) -> Ended {
    let account = request.headers().value("chatgpt-account-id");
    let call = Call { request, route, sender: Sender::Codex, drop_turn_state: false };
    let allowance = Allowance { connect: None, answer: CODEX_LIMIT };
    let asked = attempt::http(shared, &call, upload, client, allowance)
        .and_then(|answer| relay::collect(answer, shared, CODEX_LIMIT));
    let answer = match asked {
        Ok(answer) => answer,
        Err(error) if error.client_gone() => {
            trace.over(shared, 0, "client_gone");
            return Ended::Close;
        }
        Err(error) => {
            exchange::note_connect_error(shared, trace.tag, route, &error);
            trace.over(shared, 200, "made_up");
            return answer_with(shared, client, account);
        }
    };
    trace.over(shared, answer.head.status(), "whole");
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
fn write(client: &mut Client, head: &Response, body: &[u8]) -> Ended {
    let length = body.len().to_string();
    let framing = ["content-length", "transfer-encoding", "trailer"];
    let mut out = relay::head_for_codex(head, &framing, &[("content-length", length.as_bytes())]);
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
