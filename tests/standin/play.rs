//! Writes a plan to the socket, with its pace, its framing, and the place where it breaks. Knows no route and no
//! account.

use super::behave::{Behave, Cut, Framing, Point, Sse};
use super::events::{Event, Mark};
use super::frame;
use super::http;
use super::plan::Reply;
use super::serve::Line;
use super::stream::{End, Stream};
use std::time::Duration;

/// The whole of an HTTP response. False when the connection must end after it.
pub fn respond(
    line: &mut Line,
    at: usize,
    behave: &Behave,
    reply: &Reply,
    mut headers: Vec<(String, String)>,
) -> Result<bool, End> {
    begin(&mut line.stream, behave)?;
    let (status, content_type) = match reply {
        Reply::Raw(bytes) => {
            line.stream.write(bytes)?;
            return Ok(false);
        }
        Reply::Whole { status, content_type, .. } => (*status, *content_type),
        Reply::Events(_) => (200, "text/event-stream"),
        Reply::Upgrade => unreachable!("the upgrade has its own way out"),
    };
    let mut body = Body { behave, buffer: Vec::new(), framing: behave.framing };
    headers.push(("Content-Type".to_owned(), content_type.to_owned()));
    // A whole body goes with its length unless the script says otherwise.
    if matches!(reply, Reply::Whole { .. }) && body.framing == Framing::Chunked {
        body.framing = Framing::Length;
    }
    let true_length = match reply {
        Reply::Whole { body, .. } => body.len(),
        Reply::Events(events) if body.framing == Framing::Length => {
            events.iter().map(|event| sse(event, behave.sse).len()).sum()
        }
        _ => 0,
    };
    headers.push(match body.framing {
        Framing::Chunked | Framing::ChunkedFancy => ("Transfer-Encoding".to_owned(), "chunked".to_owned()),
        Framing::Length => {
            ("Content-Length".to_owned(), true_length.saturating_add_signed(behave.length_lie).to_string())
        }
        Framing::UntilClose => ("Connection".to_owned(), "close".to_owned()),
    });
    headers.extend(behave.headers.iter().cloned());
    line.shared.update(at, |record| record.status = Some(status));
    let head = http::head(status, &headers);
    if let Reply::Whole { body: bytes, .. } = reply
        && undisturbed(behave)
        && body.framing == Framing::Length
    {
        // In one piece: of a refused upgrade codex sees only as much of the body as comes with the head.
        line.stream.write(&[head.as_bytes(), bytes].concat())?;
        return Ok(behave.length_lie == 0 && !behave.early);
    }
    write_head(&mut line.stream, behave, head.as_bytes())?;
    match reply {
        Reply::Whole { body: bytes, .. } => {
            if behave.cut.is_some_and(|(point, _)| matches!(point, Point::InsideDelta(_))) {
                line.stream.write(&bytes[..bytes.len() / 2])?;
                return broken(&mut line.stream, behave);
            }
            body.put(&mut line.stream, bytes)?;
        }
        Reply::Events(events) => {
            for event in events {
                let bytes = sse(event, behave.sse);
                around(line, at, behave, event, &bytes, |stream, bytes| body.put(stream, bytes))?;
            }
        }
        Reply::Raw(_) | Reply::Upgrade => {}
    }
    body.rest(&mut line.stream)?;
    // A point that the answer does not have counts as its end.
    if behave.cut.is_some() {
        return broken(&mut line.stream, behave);
    }
    hold(&mut line.stream, behave, Point::AtEnd)?;
    body.end(&mut line.stream)?;
    Ok(body.framing != Framing::UntilClose && behave.length_lie == 0 && !behave.early)
}

/// The 101, after which the connection speaks frames.
pub fn upgrade(line: &mut Line, at: usize, behave: &Behave, mut headers: Vec<(String, String)>) -> Result<(), End> {
    begin(&mut line.stream, behave)?;
    headers.extend(behave.headers.iter().cloned());
    line.shared.update(at, |record| record.status = Some(101));
    write_head(&mut line.stream, behave, http::head(101, &headers).as_bytes())?;
    if behave.cut.is_some() { broken(&mut line.stream, behave).map(|_| ()) } else { Ok(()) }
}

/// The answer to one message on an open WebSocket.
pub fn frames(line: &mut Line, at: usize, behave: &Behave, reply: &Reply) -> Result<(), End> {
    line.stream.pause(behave.before)?;
    for point in [Point::BeforeHead, Point::InsideHead, Point::AfterHead] {
        reach(&mut line.stream, behave, point)?;
    }
    let events = match reply {
        Reply::Raw(bytes) => return line.stream.write(bytes),
        Reply::Events(events) => events.as_slice(),
        // A whole body makes no sense here; a script that asks for it gets an empty answer.
        Reply::Whole { .. } | Reply::Upgrade => &[],
    };
    for event in events {
        for _ in 0..behave.pings {
            line.stream.write(&frame::frame(0x89, b"standin"))?;
        }
        let bytes = frame::text(event.render().as_bytes(), behave.frames);
        around(line, at, behave, event, &bytes, Stream::write)?;
    }
    if behave.cut.is_some() {
        broken(&mut line.stream, behave)?;
    }
    hold(&mut line.stream, behave, Point::AtEnd)
}

/// One event with the points before, inside and after it.
fn around(
    line: &mut Line,
    at: usize,
    behave: &Behave,
    event: &Event,
    bytes: &[u8],
    mut put: impl FnMut(&mut Stream, &[u8]) -> Result<(), End>,
) -> Result<(), End> {
    let stream = &mut line.stream;
    if let Mark::Delta(number) = event.mark {
        if number == 0 {
            reach(stream, behave, Point::AfterDeltas(0))?;
        } else {
            stream.pause(behave.pace)?;
        }
        let inside = Point::InsideDelta(number);
        if behave.cut.is_some_and(|(point, _)| point == inside) {
            // Half of what stands on the wire: for HTTP the chunk says the whole length first.
            let whole = if behave.framing == Framing::Chunked && !is_frame(bytes) {
                http::chunk(bytes, "")
            } else {
                bytes.to_owned()
            };
            stream.write(&whole[..whole.len() / 2])?;
            return broken(stream, behave).map(|_| ());
        }
    }
    put(stream, bytes)?;
    if matches!(event.mark, Mark::Added | Mark::Delta(_) | Mark::Done | Mark::Completed) {
        line.shared.update(at, |record| record.output_began = true);
    }
    match event.mark {
        Mark::Created => reach(&mut line.stream, behave, Point::AfterCreated),
        Mark::Delta(number) => reach(&mut line.stream, behave, Point::AfterDeltas(number + 1)),
        _ => Ok(()),
    }
}

/// Server-sent events begin with a letter or a colon; a frame begins with its opcode.
fn is_frame(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|first| *first & 0x80 != 0 || *first < 0x20)
}

fn begin(stream: &mut Stream, behave: &Behave) -> Result<(), End> {
    stream.pause(behave.before)?;
    reach(stream, behave, Point::BeforeHead)?;
    for status in &behave.interim {
        let link = [("Link".to_owned(), "</standin>; rel=preload".to_owned())];
        stream.write(http::head(*status, &link).as_bytes())?;
    }
    Ok(())
}

/// The script has nothing to do inside the answer.
fn undisturbed(behave: &Behave) -> bool {
    behave.cut.is_none() && behave.hold.is_none() && behave.chunk_bytes.is_none()
}

fn write_head(stream: &mut Stream, behave: &Behave, head: &[u8]) -> Result<(), End> {
    let half = head.len() / 2;
    stream.write(&head[..half])?;
    reach(stream, behave, Point::InsideHead)?;
    stream.write(&head[half..])?;
    reach(stream, behave, Point::AfterHead)
}

/// Waits or breaks when the script says so for this point.
fn reach(stream: &mut Stream, behave: &Behave, point: Point) -> Result<(), End> {
    hold(stream, behave, point)?;
    if behave.cut.is_some_and(|(at, _)| at == point) { broken(stream, behave).map(|_| ()) } else { Ok(()) }
}

fn hold(stream: &mut Stream, behave: &Behave, point: Point) -> Result<(), End> {
    match &behave.hold {
        Some((at, gate)) if *at == point => stream.hold(gate),
        _ => Ok(()),
    }
}

fn broken(stream: &mut Stream, behave: &Behave) -> Result<bool, End> {
    let Some((_, cut)) = behave.cut else { return Ok(true) };
    if let Cut::Close(code) = cut {
        stream.write(&frame::close(code))?;
    }
    // A reset throws away what the peer has not read yet: it gets a moment to read.
    if cut == Cut::Reset {
        stream.pause(Duration::from_millis(20))?;
    }
    stream.cut(cut).map(|()| true)
}

fn sse(event: &Event, style: Sse) -> Vec<u8> {
    let (name, data) = (event.name(), event.render());
    match style {
        Sse::Lf => format!("event: {name}\ndata: {data}\n\n"),
        Sse::CrLf => format!("event: {name}\r\ndata: {data}\r\n\r\n"),
        Sse::Comments => format!(": stand-in\n\nevent: {name}\ndata: {data}\n\n"),
        Sse::DataOnly => format!("data: {data}\n\n"),
    }
    .into_bytes()
}

/// The body of a response as its framing wants it.
struct Body<'a> {
    behave: &'a Behave,
    /// What does not fill a chunk yet.
    buffer: Vec<u8>,
    framing: Framing,
}

impl Body<'_> {
    fn put(&mut self, stream: &mut Stream, bytes: &[u8]) -> Result<(), End> {
        let Some(size) = self.behave.chunk_bytes else { return self.write(stream, bytes) };
        self.buffer.extend_from_slice(bytes);
        let full = self.buffer.len() - self.buffer.len() % size.max(1);
        let ready: Vec<u8> = self.buffer.drain(..full).collect();
        ready.chunks(size.max(1)).try_for_each(|piece| self.write(stream, piece))
    }

    fn rest(&mut self, stream: &mut Stream) -> Result<(), End> {
        let rest = std::mem::take(&mut self.buffer);
        if rest.is_empty() { Ok(()) } else { self.write(stream, &rest) }
    }

    fn write(&self, stream: &mut Stream, bytes: &[u8]) -> Result<(), End> {
        match self.framing {
            Framing::Chunked => stream.write(&http::chunk(bytes, "")),
            Framing::ChunkedFancy => stream.write(&http::chunk(bytes, ";standin=\"a;b\"")),
            Framing::Length | Framing::UntilClose => stream.write(bytes),
        }
    }

    fn end(&self, stream: &mut Stream) -> Result<(), End> {
        match self.framing {
            Framing::Chunked => stream.write(b"0\r\n\r\n"),
            Framing::ChunkedFancy => stream.write(b"0;last\r\nx-standin-trailer: yes\r\n\r\n"),
            Framing::Length | Framing::UntilClose => Ok(()),
        }
    }
}
