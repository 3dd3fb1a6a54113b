//! The one table of what profiles share: the history store of codex, so that a thread begun under one account can be
//! resumed under another (spec S-23). Current for codex 0.169 (wire.md 8). Knows names, touches nothing.
//!
//! What is unknown stays where it is, in its profile: a link where codex expects none can do more harm than a missing one.
//! Not in here, on purpose: `auth.json` (the account itself), `config.toml` and what hangs on it (the user's choice
//! per profile), `memories` (off by default, and codex refuses to clear what is a link), `app-server-*` (sockets of a
//! daemon), caches, and the locks in `.tmp` of a compression of old threads that 0.169 has switched off.

/// How an entry is shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Made in the shared home when missing.
    Directory,
    /// Appended to; the link may dangle until codex writes the first line.
    File,
    /// Locked, never written: one that codex made in the home before it was shared says nothing, so a link replaces it.
    Lock,
    /// A database. `SQLite` follows the link and keeps `-wal` and `-shm` beside the real file, so only the main file is linked.
    Sqlite,
}

/// Entries that every managed home links, there or not. The databases are those of today's codex: linked before they
/// exist, or each profile would grow its own first.
pub const ENTRIES: &[(&str, Shape)] = &[
    ("sessions", Shape::Directory),
    ("archived_sessions", Shape::Directory),
    ("shell_snapshots", Shape::Directory),
    // Shared sessions without shared locks: two writers on one thread.
    ("thread-writer-locks", Shape::Directory),
    ("attachments", Shape::Directory),
    ("image_attachments", Shape::Directory),
    // What threads drew; their transcripts lead here.
    ("generated_images", Shape::Directory),
    // The user's checkouts (`codex --worktree`): not to go with a profile (`profile remove --delete-home`).
    ("worktrees", Shape::Directory),
    // An empty file for each thread of the terminal.
    ("tui-thread-reference-capabilities", Shape::Directory),
    ("history.jsonl", Shape::File),
    ("session_index.jsonl", Shape::File),
    // As with the writers of threads: who appends to the names takes this lock.
    ("session_index.jsonl.lock", Shape::Lock),
    ("state_5.sqlite", Shape::Sqlite),
    ("thread_history_1.sqlite", Shape::Sqlite),
    ("logs_2.sqlite", Shape::Sqlite),
    ("queue_1.sqlite", Shape::Sqlite),
    ("goals_1.sqlite", Shape::Sqlite),
    ("memories_1.sqlite", Shape::Sqlite),
    ("agent_message_board_1.sqlite", Shape::Sqlite),
];

/// Families of databases: another version of codex counts the number up.
const SQLITE_FAMILIES: [&str; 7] =
    ["state_", "thread_history_", "logs_", "queue_", "goals_", "memories_", "agent_message_board_"];

/// What `SQLite` puts beside a database.
pub const SQLITE_SIDES: [&str; 2] = ["-wal", "-shm"];

/// Whether, and how, an entry of this name is shared.
pub fn shape(name: &str) -> Option<Shape> {
    let listed = ENTRIES.iter().find(|(entry, _)| *entry == name).map(|(_, shape)| *shape);
    let family = || {
        let number = SQLITE_FAMILIES.iter().find_map(|family| name.strip_prefix(family))?.strip_suffix(".sqlite")?;
        (!number.is_empty()).then_some(Shape::Sqlite)
    };
    listed.or_else(family)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_name_and_by_pattern() {
        for (name, shape_) in ENTRIES {
            assert_eq!(shape(name), Some(*shape_));
        }
        assert_eq!(shape("state_6.sqlite"), Some(Shape::Sqlite));
        for name in
            ["auth.json", "config.toml", "state_5.sqlite-wal", "state_.sqlite", "other_1.sqlite", "Sessions", ""]
        {
            assert_eq!(shape(name), None, "{name}");
        }
    }
}
