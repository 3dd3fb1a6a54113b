//! A connection through an HTTP proxy: CONNECT, and what it answers. Knows not when a proxy is wanted (`way_out`).

use super::stream::Stream;
use super::way_out::Proxy;
use super::{Cause, NetError, Patience, Phase, fetch};
use crate::wire::url::Url;

/// A stream to the origin of `url`, on which nothing was said yet. Errors name the variable of the proxy and its address,
/// never its credentials.
pub fn open(proxy: &Proxy, url: &Url, patience: Patience) -> Result<Stream, NetError> {
    let Proxy { variable, host, port, authorization } = proxy;
    let failed = |phase, cause| NetError { phase, peer: format!("the proxy of {variable} ({host}:{port})"), cause };
    let mut stream = Stream::direct(host, *port, patience).map_err(|error| failed(error.phase, error.cause))?;
    let host = if url.host.contains(':') { format!("[{}]", url.host) } else { url.host.clone() };
    let target = format!("{host}:{}", url.port);
    let authorization =
        authorization.as_ref().map_or_else(String::new, |value| format!("Proxy-Authorization: {value}\r\n"));
    let head = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{authorization}\r\n");
    stream.write_all(head.as_bytes(), patience).map_err(|cause| failed(Phase::Send, cause))?;
    let (answer, early) =
        fetch::read_head(&mut stream, patience, fetch::is_answer).map_err(|cause| failed(Phase::Head, cause))?;
    if !(200..300).contains(&answer.status()) {
        let words = format!("the proxy of {variable} refused: {}", answer.status());
        return Err(NetError { phase: Phase::Connect, peer: target, cause: Cause::Failed(words) });
    }
    // Behind it the client speaks first, with TLS and without.
    if !early.is_empty() {
        return Err(failed(Phase::Head, Cause::Malformed("it says more than a head".to_owned())));
    }
    Ok(stream)
}
