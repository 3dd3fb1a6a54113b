//! An auth server for the real `codex login --device-auth` and `codex logout` (wire.md 9): whoever is asked for has already
//! typed the code. Knows no file.

use super::standin::json::quote;
use super::standin::token;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

pub struct Issuer {
    origin: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    who: String,
    serial: u32,
    revoked: Vec<String>,
}

impl Issuer {
    pub fn start() -> Issuer {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let origin = format!("http://{}", listener.local_addr().expect("it is bound"));
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        // Ends with the process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                answer(stream, &shared);
            }
        });
        Issuer { origin, state }
    }

    pub fn origin(&self) -> &str {
        &self.origin
    }

    pub fn revoke_url(&self) -> String {
        format!("{}/oauth/revoke", self.origin)
    }

    /// From now on this account logs in; its refresh token will be the answer.
    pub fn expect(&self, name: &str) -> String {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        name.clone_into(&mut state.who);
        state.serial += 1;
        refresh_token(&state)
    }

    /// Bodies of the calls that ended a login.
    pub fn revoked(&self) -> Vec<String> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).revoked.clone()
    }
}

fn refresh_token(state: &State) -> String {
    format!("rt-{}-login-{}", state.who, state.serial)
}

fn answer(stream: TcpStream, state: &Mutex<State>) {
    let mut reader = BufReader::new(stream);
    let (mut line, mut length) = (String::new(), 0);
    let mut target = String::new();
    while reader.read_line(&mut line).is_ok_and(|count| count > 2) {
        let lower = line.to_ascii_lowercase();
        if target.is_empty() {
            line.split(' ').nth(1).unwrap_or_default().clone_into(&mut target);
        } else if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        }
        line.clear();
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("a body of that length");
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    let json = if target.ends_with("/deviceauth/usercode") {
        r#"{"device_auth_id":"d-1","user_code":"ABCD-EFGH","interval":"1"}"#.to_owned()
    } else if target.ends_with("/deviceauth/token") {
        r#"{"authorization_code":"c-1","code_challenge":"challenge","code_verifier":"verifier"}"#.to_owned()
    } else if target.ends_with("/oauth/token") {
        let far = token::unix_now() + 30 * 24 * 3600;
        format!(
            r#"{{"id_token":{},"access_token":{},"refresh_token":{}}}"#,
            quote(&token::id_token(&state.who, "plus")),
            quote(&token::access_token(&state.who, far, state.serial)),
            quote(&refresh_token(&state))
        )
    } else {
        state.revoked.push(String::from_utf8_lossy(&body).into_owned());
        "{}".to_owned()
    };
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        json.len()
    );
    // A client that is gone wants no answer.
    let _ = reader.get_mut().write_all(&[head, json].concat().into_bytes());
}
