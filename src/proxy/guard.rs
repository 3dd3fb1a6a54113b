//! Who may use the proxy (spec S-80): the run's codex, and nobody who merely found the port. Pure: what is allowed, not
//! how a refusal looks.

use super::route::Class;
use crate::wire::head::Request;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// A page in a browser sends an Origin; codex never does.
    Origin,
    /// Not our own address: DNS rebinding.
    Host,
    /// A model route without a credential of a managed profile: the secret in the path can be read in a process list.
    Credential,
}

impl Refusal {
    pub fn name(self) -> &'static str {
        match self {
            Refusal::Origin => "origin",
            Refusal::Host => "host",
            Refusal::Credential => "credential",
        }
    }
}

/// `recognises`: whether an `Authorization` value is the current token of a managed profile.
pub fn check(
    request: &Request,
    class: Class,
    authority: &str,
    recognises: impl FnOnce(&str) -> bool,
) -> Result<(), Refusal> {
    let headers = request.headers();
    if headers.contains("origin") {
        return Err(Refusal::Origin);
    }
    let mut hosts = headers.values("host");
    if hosts.next() != Some(authority.as_bytes()) || hosts.next().is_some() {
        return Err(Refusal::Host);
    }
    // The other routes travel with what codex sent; the one that gets credentials from us has its own rule (`exchange`).
    if class == Class::Model {
        let mut given = headers.values("authorization");
        let only = given.next().filter(|_| given.next().is_none()).and_then(|value| std::str::from_utf8(value).ok());
        if !only.is_some_and(recognises) {
            return Err(Refusal::Credential);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::head;

    #[test]
    fn only_our_codex() {
        let ask = |headers: &str, class| {
            let text = format!("POST /x HTTP/1.1\r\n{headers}\r\n");
            let (_, request) = head::request(text.as_bytes()).unwrap().unwrap();
            check(&request, class, "127.0.0.1:9", |given| given == "Bearer t")
        };
        let table = [
            ("host: 127.0.0.1:9\r\nauthorization: Bearer t\r\n", Class::Model, Ok(())),
            ("host: 127.0.0.1:9\r\n", Class::Auxiliary, Ok(())),
            ("host: 127.0.0.1:9\r\n", Class::Check, Ok(())),
            ("host: 127.0.0.1:9\r\n", Class::Model, Err(Refusal::Credential)),
            ("host: 127.0.0.1:9\r\nauthorization: Bearer u\r\n", Class::Model, Err(Refusal::Credential)),
            (
                "host: 127.0.0.1:9\r\nauthorization: Bearer t\r\nauthorization: Bearer t\r\n",
                Class::Model,
                Err(Refusal::Credential),
            ),
            ("host: localhost:9\r\nauthorization: Bearer t\r\n", Class::Model, Err(Refusal::Host)),
            ("host: evil.example\r\n", Class::Auxiliary, Err(Refusal::Host)),
            ("host: 127.0.0.1:9\r\nhost: evil.example\r\n", Class::Auxiliary, Err(Refusal::Host)),
            ("", Class::Auxiliary, Err(Refusal::Host)),
            ("host: 127.0.0.1:9\r\norigin: null\r\n", Class::Auxiliary, Err(Refusal::Origin)),
        ];
        for (headers, class, expected) in table {
            assert_eq!(ask(headers, class), expected, "{headers}");
        }
    }
}
