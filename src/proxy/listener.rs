//! The listening socket, the connections that are quiet, and the workers for those that are not.
//! One thread polls; a worker serves one connection while something happens on it. Knows no HTTP.

use super::Shared;
use super::downstream::{Client, local_answer};
use super::exchange;
use super::journal::{Journal, Marker};
use crate::net::stream::Stream;
use crate::sys::clock;
use crate::sys::poll::{self, Watch};
use crate::sys::socket;
use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Connections with something to say that wait for a worker.
const MAX_QUEUE: usize = 256;
/// Connections that are quiet, and for how long they may be.
const MAX_QUIET: usize = 512;
const QUIET_LIMIT: Duration = Duration::from_secs(300);
/// A worker without work ends after this.
const WORKER_IDLE: Duration = Duration::from_secs(10);
/// Virtual only: what is not touched costs nothing. A TLS handshake in a debug build needs 48 KiB (`design.md` 2.5).
const WORKER_STACK: usize = 512 * 1024;

struct Pool {
    shared: Arc<Shared>,
    work: Mutex<Work>,
    available: Condvar,
    /// Connections that a worker gives back, and the bell that tells the polling thread.
    returned: Mutex<Vec<Client>>,
    bell: UnixStream,
}

#[derive(Default)]
struct Work {
    queue: VecDeque<Client>,
    workers: usize,
    waiting: usize,
}

/// What is done for one more connection with something to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// A worker waits for it.
    Wake,
    Start,
    /// All work; one of them takes it when it is through.
    Wait,
    Refuse,
}

impl Work {
    fn for_one_more(&self, most: usize) -> Step {
        if self.queue.len() >= MAX_QUEUE {
            Step::Refuse
        } else if self.waiting > self.queue.len() {
            Step::Wake
        } else if self.workers < most {
            Step::Start
        } else {
            Step::Wait
        }
    }
}

pub fn start(shared: Arc<Shared>, listener: TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let (bell, ear) = UnixStream::pair()?;
    bell.set_nonblocking(true)?;
    ear.set_nonblocking(true)?;
    let pool =
        Arc::new(Pool { shared, work: Mutex::default(), available: Condvar::new(), returned: Mutex::default(), bell });
    std::thread::Builder::new().name("listener".to_owned()).spawn(move || run(&pool, &listener, &ear))?;
    Ok(())
}

fn run(pool: &Arc<Pool>, listener: &TcpListener, ear: &UnixStream) {
    let mut quiet: Vec<Client> = Vec::new();
    let mut watches: Vec<Watch> = Vec::new();
    loop {
        watches.clear();
        watches.extend([Watch::new(listener).read(true), Watch::new(ear).read(true)]);
        watches.extend(quiet.iter().map(|client| client.stream.watch(true, false)));
        let next_expiry = quiet.iter().map(|client| client.since + QUIET_LIMIT).chain(pool.next_late()).min();
        if poll::wait(&mut watches, next_expiry).is_err() {
            // Out of memory for the set: better slow than busy.
            std::thread::sleep(Duration::from_millis(10));
            continue;
        }
        let now = clock::now();
        pool.refuse_late(now);
        let mut told = watches.iter().skip(2);
        for client in std::mem::take(&mut quiet) {
            match told.next() {
                Some(watch) if watch.readable() || watch.hung_up() => pool.serve(client),
                _ if now.saturating_duration_since(client.since) >= QUIET_LIMIT => {}
                _ => quiet.push(client),
            }
        }
        if watches[1].readable() {
            let mut bells = [0; 256];
            while (&*ear).read(&mut bells).is_ok_and(|n| n == bells.len()) {}
            quiet.append(&mut lock(&pool.returned));
        }
        if watches[0].readable() {
            accept(listener, &mut quiet);
        }
        if quiet.len() > MAX_QUIET {
            quiet.sort_unstable_by_key(|client| client.since);
            quiet.drain(..quiet.len() - MAX_QUIET);
        }
    }
}

fn accept(listener: &TcpListener, quiet: &mut Vec<Client>) {
    loop {
        match listener.accept() {
            Ok((socket, _)) => quiet.extend(prepare(socket).ok()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            // The peer is gone already, or descriptors are short: the latter needs a pause to recover.
            Err(error) => {
                if socket::out_of_descriptors(&error) {
                    std::thread::sleep(Duration::from_millis(20));
                }
                return;
            }
        }
    }
}

fn prepare(socket: TcpStream) -> io::Result<Client> {
    socket.set_nodelay(true)?;
    Ok(Client::new(Stream::plain(socket)?))
}

impl Pool {
    fn refuse(&self, mut client: Client, marker: Marker, why: fmt::Arguments<'_>) {
        let workers = lock(&self.work).workers;
        self.shared.journal.note(marker, format_args!("transport=http {why} workers={workers}"));
        // Best effort: this thread must not wait for anybody.
        let _ = client.stream.write(&local_answer(503, "service_unavailable", "prodex: too many requests at once."));
    }

    /// Whoever has waited for a worker as long as others wait for a place is refused.
    fn refuse_late(&self, now: Instant) {
        let limit = self.shared.limits.admission_wait;
        let is_late = |client: &mut Client| now.saturating_duration_since(client.since) >= limit;
        loop {
            let late = lock(&self.work).queue.pop_front_if(is_late);
            let Some(client) = late else { return };
            let waited = now.saturating_duration_since(client.since).as_millis();
            let why = format_args!("waited_ms={waited} reason=workers_busy");
            self.refuse(client, Marker::QueueWaitExhausted, why);
        }
    }

    /// When the first of the queue is to be refused.
    fn next_late(&self) -> Option<Instant> {
        Some(lock(&self.work).queue.front()?.since + self.shared.limits.admission_wait)
    }

    fn serve(self: &Arc<Pool>, mut client: Client) {
        let mut work = lock(&self.work);
        let step = work.for_one_more(self.shared.limits.workers());
        if step == Step::Refuse {
            drop(work);
            return self.refuse(client, Marker::QueueOverloaded, format_args!("reason=queue_full"));
        }
        client.since = clock::now();
        work.queue.push_back(client);
        if step == Step::Wake {
            self.available.notify_one();
        } else if step == Step::Start {
            work.workers += 1;
            drop(work);
            let pool = Arc::clone(self);
            let spawned = std::thread::Builder::new()
                .name("worker".to_owned())
                .stack_size(WORKER_STACK)
                .spawn(move || pool.work());
            if spawned.is_err() {
                let mut work = lock(&self.work);
                work.workers -= 1;
                // The system gives no thread: another worker takes it, or nobody ever would.
                let left = if work.workers == 0 { work.queue.pop_back() } else { None };
                drop(work);
                if let Some(client) = left {
                    self.refuse(client, Marker::QueueOverloaded, format_args!("reason=no_thread"));
                }
            }
        }
    }

    fn work(&self) {
        while let Some(client) = self.next() {
            self.shared.at_work.fetch_add(1, Ordering::Relaxed);
            let client = contained(&self.shared.journal, || exchange::serve(&self.shared, client));
            self.shared.at_work.fetch_sub(1, Ordering::Relaxed);
            if let Some(client) = client {
                self.give_back(client);
            }
        }
    }

    fn next(&self) -> Option<Client> {
        let until: Instant = clock::now() + WORKER_IDLE;
        let mut work = lock(&self.work);
        loop {
            if let Some(client) = work.queue.pop_front() {
                return Some(client);
            }
            let left = until.saturating_duration_since(clock::now());
            if left.is_zero() {
                work.workers -= 1;
                return None;
            }
            work.waiting += 1;
            work = self.available.wait_timeout(work, left).unwrap_or_else(PoisonError::into_inner).0;
            work.waiting -= 1;
        }
    }

    fn give_back(&self, mut client: Client) {
        client.since = clock::now();
        lock(&self.returned).push(client);
        // A full pipe rings too.
        let _ = (&self.bell).write(&[1]);
    }
}

/// A bug in one exchange ends that exchange.
fn contained<T>(journal: &Journal, exchange: impl FnOnce() -> Option<T>) -> Option<T> {
    catch_unwind(AssertUnwindSafe(exchange)).unwrap_or_else(|_| {
        journal.note(Marker::WorkerPanic, format_args!("the exchange was dropped"));
        None
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::scratch::Scratch;

    const MAX_WORKERS: usize = 1_024;

    #[test]
    fn one_more_connection() {
        let client = || {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            prepare(TcpStream::connect(listener.local_addr().unwrap()).unwrap()).unwrap()
        };
        let some = MAX_WORKERS - 1;
        let table = [
            (0, 0, 0, Step::Start),
            (0, 1, 1, Step::Wake),
            // Somebody was woken for each of those that wait; one more needs one more.
            (1, 1, 1, Step::Start),
            (1, 2, 2, Step::Wake),
            (MAX_QUEUE - 1, some, 0, Step::Start),
            (MAX_QUEUE - 1, MAX_WORKERS, 0, Step::Wait),
            (MAX_QUEUE, MAX_WORKERS, 0, Step::Refuse),
        ];
        for (queued, workers, waiting, step) in table {
            let work = Work { queue: (0..queued).map(|_| client()).collect(), workers, waiting };
            assert_eq!(work.for_one_more(MAX_WORKERS), step, "{queued} {workers} {waiting}");
        }
    }

    #[test]
    fn a_panic_ends_its_own_exchange() {
        let dir = Scratch::new("contained");
        let journal = Journal::open(dir.root());
        assert_eq!(contained(&journal, || Some(1)), Some(1));
        assert_eq!(contained::<u8>(&journal, || panic!("a bug")), None);
        let log = std::fs::read_to_string(journal.path()).unwrap();
        assert!(log.lines().count() == 1 && log.contains("worker_panic") && !log.contains("a bug"), "{log}");
    }
}
