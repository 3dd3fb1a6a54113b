//! `profile export` and `profile import`: profiles with their logins, from one machine to another in one file. Says what the file
//! is, and refuses what would overwrite anything. The document is `profile::bundle`'s, the files of a home `profile::pack`'s.

use super::profile::add::{Added, publish};
use super::{load, show, warn};
use crate::cli;
use crate::config::Config;
use crate::error::{Error, Outcome};
use crate::profile::auth::{self, Auth};
use crate::profile::bundle::{self, Bundle, Packed};
use crate::profile::identity::Identity;
use crate::profile::owner::holder;
use crate::profile::{self, Profile, home, husk, name, pack};
use crate::screen::panel::Panel;
use crate::screen::text::clean;
use crate::state::{State, file};
use std::ffi::OsStr;
use std::fs;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

pub fn export(config: &Config, target: &OsStr, names: &[String], out: &mut dyn Write) -> Outcome {
    let state = load(config)?;
    let chosen = chosen(&state, names)?;
    let to_stdout = target == "-";
    if to_stdout && io::stdout().is_terminal() {
        return Err(Error::new("an export holds credentials, which do not belong on a screen")
            .next("Name a file, or send it on: `prodex profile export - | age -p > FILE`."));
    }
    if to_stdout && leads_nowhere(&io::stdout()) {
        return Err(Error::new("stdout is closed or /dev/null, so nothing was exported")
            .next("Name a file, or send it on: `prodex profile export - | age -p > FILE`."));
    }
    let path = Path::new(target);
    if !to_stdout && fs::symlink_metadata(path).is_ok() {
        return Err(exists(path));
    }
    let mut bundle = Bundle { active: state.active(), profiles: Vec::new() };
    let mut room = bundle::MAX_CONTENT;
    for profile in &chosen {
        bundle.profiles.extend(packed(profile, &mut room)?);
    }
    if bundle.profiles.is_empty() {
        return Err(Error::new("there is nothing to export").next("See `prodex profile list`."));
    }
    let text = bundle.text();
    if text.len() as u64 > bundle::MAX_BYTES {
        let what = format!("an export holds at most {} MiB", bundle::MAX_BYTES >> 20);
        return Err(Error::new(what).next("Export the profiles in several files: `prodex profile export FILE NAME`."));
    }
    let names: Vec<&str> = bundle.profiles.iter().map(|packed| packed.name.as_str()).collect();
    let done = format!("Exported {}.", names.join(", "));
    let has_login = bundle.profiles.iter().flat_map(|packed| &packed.files).any(|file| file.path == "auth.json");
    if to_stdout {
        out.write_all(text.as_bytes())?;
        out.flush()?;
        eprint(&done);
    } else {
        if let Err(error) = file::write_new(path, text.as_bytes()) {
            if error.kind() == io::ErrorKind::AlreadyExists {
                return Err(exists(path));
            }
            // What there is of it is ours, and holds credentials.
            let _ = fs::remove_file(path);
            return Err(Error::io("write", path, &error));
        }
        show(out, &[Panel::new("Profiles Exported").row("Result", done).row("File", path.display().to_string())])?;
    }
    if has_login {
        eprint(
            "The file holds credentials: whoever has it can use these accounts. Keep it from others on its way, and delete it then.",
        );
        eprint(SHARED);
    }
    Ok(0)
}

/// A closed stdout is /dev/null by the time that we come to it: everything can be written to it, and nothing is kept.
fn leads_nowhere(stdout: &io::Stdout) -> bool {
    let device = |meta: fs::Metadata| meta.file_type().is_char_device().then(|| meta.rdev());
    let of = |file: io::Result<fs::File>| file.and_then(|file| file.metadata()).ok().and_then(device);
    let ours = of(stdout.as_fd().try_clone_to_owned().map(fs::File::from));
    ours.is_some() && ours == fs::metadata("/dev/null").ok().and_then(device)
}

/// What both ends are told.
const SHARED: &str = "Both machines now hold the same refresh tokens, each good for one refresh: whichever refreshes first logs \
                      the other out. Work with these accounts on one machine only, or log in anew on one of them with \
                      `prodex login -p NAME`; no `codex logout`: it would end both.";

fn eprint(text: &str) {
    let _ = io::stderr().write_all(format!("{}\n", clean(text)).as_bytes());
}

fn exists(path: &Path) -> Error {
    Error::new(format!("{} exists already", path.display())).next("Name another file, or move that one away.")
}

fn chosen(state: &State, names: &[String]) -> Result<Vec<Profile>, Error> {
    if names.is_empty() {
        return Ok(state.profiles());
    }
    let mut chosen: Vec<Profile> = Vec::new();
    for name in names {
        let profile = state.profile(name).ok_or_else(|| profile::unknown(name))?;
        if !chosen.contains(&profile) {
            chosen.push(profile);
        }
    }
    Ok(chosen)
}

/// `None`: there is no home to export. Takes from `room` what it takes.
fn packed(profile: &Profile, room: &mut usize) -> Result<Option<Packed>, Error> {
    let Profile { name, codex_home, .. } = profile;
    if !codex_home.is_dir() {
        warn(&format!("profile '{name}' is left out: {} does not exist", codex_home.display()));
        return Ok(None);
    }
    match auth::read(codex_home) {
        Auth::ChatGpt(_) | Auth::ApiKey | Auth::Other(_) => {}
        Auth::Missing => warn(&format!("profile '{name}' has no login, so the export has none for it")),
        Auth::Keyring { .. } => warn(&format!(
            "the login of profile '{name}' is in this system's keyring, so the export does not have it: log in on the other \
             machine with `prodex login -p {name}`"
        )),
        Auth::Invalid(why) | Auth::Unreadable(why) => {
            return Err(Error::new(format!("profile '{name}' cannot be exported: {why}"))
                .next(format!("Log in again with `prodex login -p {name}`, or name the others.")));
        }
    }
    let contents = pack::read(codex_home, *room)?;
    *room = contents.room;
    for left_out in &contents.left_out {
        warn(&format!("not exported: {left_out}"));
    }
    if contents.more_left_out > 0 {
        warn(&format!("not exported: {} more of {}", contents.more_left_out, codex_home.display()));
    }
    Ok(Some(Packed {
        name: name.clone(),
        email: profile.email.clone(),
        disabled: profile.disabled,
        reserve: profile.reserve,
        files: contents.files,
    }))
}

pub fn import(config: &Config, args: &cli::ProfileImport, out: &mut dyn Write) -> Outcome {
    home::sweep_left_over(config);
    let state = load(config)?;
    let shown =
        if args.file == "-" { "what came on stdin".to_owned() } else { Path::new(&args.file).display().to_string() };
    let bundle = Bundle::parse(&read(&args.file)?).map_err(|why| {
        Error::new(format!("{shown} cannot be imported: {why}")).next("Nothing was changed. Export it anew.")
    })?;
    let mut packed = wanted(bundle.profiles, args, &shown)?;
    if let Some(rename) = &args.rename {
        name::validate_new(rename)?;
        let [only] = packed.as_mut_slice() else {
            return Err(Error::usage(format!("--as names one profile, and {} are to be imported", packed.len()))
                .next("Name the one: `prodex profile import FILE NAME --as NEW`."));
        };
        only.name.clone_from(rename);
    }
    refuse_taken(config, &state, &packed, &args.file)?;
    // All of them are written before the first one gets its name, so what fails here leaves nothing.
    let staged = packed.iter().map(|packed| stage(config, packed)).collect::<Result<Vec<_>, Error>>()?;
    let identities: Vec<Identity> = staged.iter().map(|(_, login)| Identity::of(login, None)).collect();
    refuse_twins(&packed, &identities, &args.file)?;
    for (packed, identity) in packed.iter().zip(&identities) {
        refuse_here(&state, packed, identity)?;
    }
    let first = state.profiles().is_empty();
    let mut made: Vec<Added> = Vec::new();
    for ((packed, identity), (staged, login)) in packed.iter().zip(&identities).zip(staged) {
        let profile = Profile {
            name: packed.name.clone(),
            codex_home: config.profiles_dir().join(&packed.name),
            managed: true,
            email: login.email().map(ToOwned::to_owned).or_else(|| packed.email.clone()),
            disabled: packed.disabled,
            reserve: packed.reserve,
        };
        let activate = first && bundle.active.as_deref() == Some(&packed.name);
        // Once more: another import may have brought the account meanwhile, under another name.
        match publish(config, profile, activate, staged, "", &|state| refuse_here(state, packed, identity)) {
            Ok(added) => made.push(added),
            Err(error) if made.is_empty() => return Err(error),
            Err(error) => {
                let names: Vec<&str> = made.iter().map(|added| added.profile.name.as_str()).collect();
                let what = format!("only {} was imported, then: {error}", names.join(", "));
                return Err(Error::new(what).next("Import the others by name: `prodex profile import FILE NAME`."));
            }
        }
    }
    let names: Vec<&str> = made.iter().map(|added| added.profile.name.as_str()).collect();
    let active = made.last().and_then(|added| added.active.clone()).unwrap_or_else(|| "none".to_owned());
    let mut panel =
        Panel::new("Profiles Imported").row("Result", format!("Imported {}.", names.join(", "))).row("Active", active);
    let mut shares = false;
    for added in &made {
        let name = &added.profile.name;
        match auth::read(&added.profile.codex_home) {
            Auth::ChatGpt(_) => shares = true,
            Auth::Missing | Auth::Keyring { .. } => {
                panel = panel.row("Next", format!("The file holds no login of '{name}': `prodex login -p {name}`."));
            }
            _ => {}
        }
    }
    show(out, &[panel])?;
    let others = packed.iter().flat_map(|packed| &packed.files).filter(|file| file.path != "auth.json").count();
    if others > 0 {
        eprint(&format!(
            "With the logins came {others} other {} (config.toml, skills, rules ...), which codex will follow and run, and which \
             nobody has looked at: do so before the first run unless the file is your own.",
            if others == 1 { "file" } else { "files" }
        ));
    }
    if shares {
        eprint(SHARED);
    }
    Ok(0)
}

fn read(source: &OsStr) -> Result<Vec<u8>, Error> {
    let path = Path::new(source);
    if source != "-" {
        return file::read_bounded(path, bundle::MAX_BYTES).map_err(|error| Error::io("read", path, &error));
    }
    let stdin = io::stdin();
    if stdin.is_terminal() {
        return Err(
            Error::new("nothing comes on stdin").next("Send an export: `age -d FILE | prodex profile import -`.")
        );
    }
    let mut bytes = Vec::new();
    stdin.lock().take(bundle::MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bundle::MAX_BYTES {
        return Err(Error::new(format!("what came on stdin is larger than {} MiB", bundle::MAX_BYTES >> 20)));
    }
    Ok(bytes)
}

/// Those that were named, else all.
fn wanted(mut packed: Vec<Packed>, args: &cli::ProfileImport, shown: &str) -> Result<Vec<Packed>, Error> {
    for name in &args.names {
        if !packed.iter().any(|packed| packed.name == *name) {
            let names: Vec<&str> = packed.iter().map(|packed| packed.name.as_str()).collect();
            let what = format!("there is no profile '{name}' in {shown}");
            return Err(Error::new(what).next(format!("It holds {}.", names.join(", "))));
        }
    }
    packed.retain(|packed| args.names.is_empty() || args.names.contains(&packed.name));
    Ok(packed)
}

fn refuse_taken(config: &Config, state: &State, packed: &[Packed], shown: &OsStr) -> Result<(), Error> {
    let has_home = |name: &str| !husk::is_free(&config.profiles_dir().join(name));
    let taken = |packed: &&Packed| state.has_entry(&packed.name) || has_home(&packed.name);
    let (taken, free): (Vec<&Packed>, Vec<&Packed>) = packed.iter().partition(taken);
    let Some(first) = taken.first() else { return Ok(()) };
    let what = if state.has_entry(&first.name) {
        format!("profile '{}' already exists, and nothing was imported", first.name)
    } else {
        let home = config.profiles_dir().join(&first.name);
        format!("{} exists already, and nothing was imported", home.display())
    };
    let names: Vec<&str> = free.iter().map(|packed| packed.name.as_str()).collect();
    let others =
        if names.is_empty() { String::new() } else { format!("Import the others by name ({}). ", names.join(", ")) };
    let (shown, name) = (shown.display(), &first.name);
    Err(Error::new(what).next(format!(
        "{others}Another name for an account that is not here yet: `prodex profile import {shown} {name} --as NEW`."
    )))
}

/// A whole home that has no name yet, and its login.
fn stage(config: &Config, packed: &Packed) -> Result<(home::Staged, Auth), Error> {
    let staged = home::Staged::empty(config)?;
    pack::write(staged.path(), &packed.files)?;
    let login = auth::read(staged.path());
    if let Auth::Invalid(why) | Auth::Unreadable(why) = &login {
        let what = format!("the login of profile '{}' in the export is none: {why}", packed.name);
        return Err(Error::new(what).next("Nothing was changed. Export it anew."));
    }
    Ok((staged, login))
}

const TWO_COPIES: &str = "Two copies of one login log each other out";

/// Each account is in what is imported once.
fn refuse_twins(packed: &[Packed], identities: &[Identity], shown: &OsStr) -> Result<(), Error> {
    for (index, identity) in identities.iter().enumerate() {
        let before = identities[..index].iter().position(|other| other.likeness(identity).is_some());
        let Some([first, second]) = before.map(|before| [before, index].map(|at| &packed[at].name)) else { continue };
        let what = format!("profiles '{first}' and '{second}' in the export are one account, and nothing was imported");
        let shown = shown.display();
        return Err(Error::new(what).next(format!(
            "{TWO_COPIES}: name one of them, and the others: `prodex profile import {shown} {first}`."
        )));
    }
    Ok(())
}

/// The account is not here yet.
fn refuse_here(state: &State, packed: &Packed, identity: &Identity) -> Result<(), Error> {
    let Some(owner) = holder(state, identity) else { return Ok(()) };
    let what = format!("the account of profile '{}' in the export is here already, as '{}'", packed.name, owner.name);
    Err(Error::new(what).next(format!(
        "{TWO_COPIES}: take the others by name, or first `prodex profile remove {} --delete-home`.",
        owner.name
    )))
}
