//! The stand-in backend as a program, for `scripts/try` and for trying things by hand. It only turns flags into a
//! script; what it serves is made elsewhere.

#![allow(clippy::doc_markdown)]

#[path = "mod.rs"]
mod standin;

use standin::backend::Backend;
use standin::behave::Behave;
use standin::script::{Kind, Script};
use standin::tls::Ca;
use standin::token;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

const HELP: &str = "\
A stand-in for ChatGPT's backend: accounts that are made up, on loopback.

Usage: standin [FLAGS]

  --port N                    listen on 127.0.0.1:N (default 0: any free port)
  --port-file PATH            write the port there once it listens
  --account NAME              an account in good health; may be repeated (default: first, second)
  --exhausted NAME            its windows are full and every request says so
  --exhausted-after-warmup NAME
                              looks healthy, answers the warm-up, then its quota is gone
  --workspace ORIGIN          what accounts/check says of each (default NO_CONSTRAINT)
  --http-only                 answer every WebSocket upgrade with 426
  --tls DIR                   serve https; the CA goes to DIR/standin-ca.pem
  --verbose                   one line on stderr for each finished request
  --print-auth NAME           print an auth.json for NAME (made up, unsigned) and end
  -h, --help                  this text

An account NAME has the id acct-NAME and the bearer token tok-NAME, or the JWT of --print-auth.
The base URL is http://127.0.0.1:PORT/backend-api. Ends with Ctrl+C.
";

struct Options {
    script: Script,
    port: u16,
    port_file: Option<PathBuf>,
    tls: Option<PathBuf>,
}

fn main() -> ExitCode {
    let options = match parse(lexopt::Parser::from_env()) {
        Ok(Some(options)) => options,
        Ok(None) => return ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("standin: {error} (see --help)");
            return ExitCode::from(2);
        }
    };
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("standin: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> std::io::Result<()> {
    let tls = options.tls.map(|dir| Ca::new(&dir).config());
    let backend = Backend::listen(options.script, options.port, tls)?;
    if let Some(path) = options.port_file {
        // Renamed into place: who waits for the file never reads half of it.
        let partial = path.with_extension("partial");
        std::fs::write(&partial, backend.address().port().to_string())?;
        std::fs::rename(&partial, &path)?;
    }
    writeln!(std::io::stdout(), "{}", backend.base_url())?;
    loop {
        std::thread::park();
    }
}

/// `None`: what was asked for is printed already.
fn parse(mut parser: lexopt::Parser) -> Result<Option<Options>, lexopt::Error> {
    use lexopt::prelude::{Long, Short, ValueExt as _};
    let mut names: Vec<String> = Vec::new();
    let (mut exhausted, mut after_warmup) = (Vec::new(), Vec::new());
    let mut workspace = None;
    let (mut port, mut port_file, mut tls, mut http_only, mut verbose) = (0, None, None, false, false);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("port") => port = parser.value()?.parse()?,
            Long("port-file") => port_file = Some(parser.value()?.into()),
            Long("account") => names.push(parser.value()?.string()?),
            Long("exhausted") => exhausted.push(parser.value()?.string()?),
            Long("exhausted-after-warmup") => after_warmup.push(parser.value()?.string()?),
            Long("workspace") => workspace = Some(parser.value()?.string()?),
            Long("http-only") => http_only = true,
            Long("tls") => tls = Some(parser.value()?.into()),
            Long("verbose") => verbose = true,
            Long("print-auth") => {
                print!("{}", token::auth_json(&parser.value()?.string()?));
                return Ok(None);
            }
            Short('h') | Long("help") => {
                print!("{HELP}");
                return Ok(None);
            }
            other => return Err(other.unexpected()),
        }
    }
    if names.is_empty() {
        names = vec!["first".to_owned(), "second".to_owned()];
    }
    let mut script = Script::new(&names.iter().map(String::as_str).collect::<Vec<_>>());
    script.verbose = verbose;
    if let Some(origin) = workspace {
        for name in &names {
            script.account(name).check.origin.clone_from(&origin);
        }
    }
    for name in exhausted.iter().chain(&after_warmup) {
        if !names.contains(name) {
            return Err(format!("no account {name}").into());
        }
        exhaust(&mut script, name, exhausted.contains(name));
    }
    if http_only {
        for name in &names {
            script.set(name, Kind::Handshake, [Behave::upgrade_required()]);
        }
    }
    Ok(Some(Options { script, port, port_file, tls }))
}

fn exhaust(script: &mut Script, name: &str, at_once: bool) {
    for kind in [Kind::Turn, Kind::Compact] {
        script.set(name, kind, [Behave::quota_event()]);
    }
    script.set(name, Kind::Post, [Behave::quota_status()]);
    if at_once {
        script.set(name, Kind::Prewarm, [Behave::quota_event()]);
        script.account(name).usage = standin::usage::Usage::both(100.0, 40.0);
    }
}
