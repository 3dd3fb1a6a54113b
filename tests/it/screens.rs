//! The quota screens as files, for people to look at: every width, colours, ASCII, a short terminal. A change of them is seen
//! in the diff. `PRODEX_BLESS=1 cargo test --test it screens` writes them anew; look at them before you commit.

use prodex::quota::pool::Pool;
use prodex::quota::{Credits, Limit, Reading, Window};
use prodex::screen::palette::Palette;
use prodex::screen::quota::{Live, Row, overview, single};
use prodex::screen::{Look, text};
use std::path::{Path, PathBuf};

/// 2026-11-25 04:32:11 UTC.
const NOW: u64 = 1_795_581_131;
const WIDTHS: [usize; 5] = [40, 60, 80, 120, 200];
const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;

fn look(width: usize, palette: Palette) -> Look<'static> {
    Look { now: NOW, width, zone: &|_| 3_600, palette }
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/golden").join(format!("{name}.txt"))
}

/// Escapes are written as `␛`, so that the file can be read anywhere.
#[track_caller]
fn golden(name: &str, screen: &str) {
    let screen = screen.replace('\x1b', "␛");
    if std::env::var_os("PRODEX_BLESS").is_some() {
        std::fs::write(file(name), &screen).expect("the golden file is written");
    }
    let expected = std::fs::read_to_string(file(name)).unwrap_or_default();
    assert!(screen == expected, "{name} is not as it was; now:\n{screen}\nwas:\n{expected}");
}

fn window(length: u64, used: f64, resets_in: u64) -> Window {
    Window { length, used_percent: Some(used), resets_at: Some(NOW + resets_in) }
}

fn reading(plan: &str, windows: Vec<Window>) -> Reading {
    Reading { plan: Some(plan.to_owned()), windows, taken_at: NOW, ..Reading::default() }
}

fn both(plan: &str, (five, resets): (f64, u64), (week, week_resets): (f64, u64)) -> Reading {
    reading(plan, vec![window(5 * HOUR, five, resets), window(7 * DAY, week, week_resets)])
}

/// Everything at once: wide and joined characters, long names, hostile texts, every state.
fn accounts() -> Vec<(&'static str, &'static str, Result<Reading, &'static str>)> {
    let spark = Limit { name: "GPT-5.3-Codex-Spark".to_owned(), windows: vec![window(5 * HOUR, 100.0, 900)] };
    let team = both("team", (37.0, 6_012), (12.0, 4 * DAY + 15 * HOUR));
    let mut refused = both("team", (10.0, HOUR), (10.0, DAY));
    (refused.limit_reached, refused.reached_type) = (true, Some("workspace_owner_credits_depleted".to_owned()));
    vec![
        ("work", "work@example.com", Ok(team)),
        ("main", "main@example.com", Ok(both("plus", (88.0, 9_899), (74.5, 2 * DAY + 7 * HOUR)))),
        ("日本語アカウント", "名前@例え.jp", Ok(both("plus", (0.0, 5 * HOUR), (22.0, 5 * DAY)))),
        (
            "spent",
            "a.very.long.address.of.somebody@subdomain.example.com",
            Ok(both("plus", (100.0, 3_245), (45.0, 3 * DAY))),
        ),
        (
            "weekly-only",
            "👩\u{200d}👩\u{200d}👧🇩🇪e\u{301}@example.com",
            Ok(reading("free", vec![window(7 * DAY, 95.0, DAY)])),
        ),
        (
            "a-name-of-forty-characters-is-still-fine",
            "pro@example.com",
            Ok(Reading { other_limits: vec![spark], ..both("pro", (5.0, 16_000), (31.0, 5 * DAY)) }),
        ),
        (
            "hostile",
            "x\x1b[2J\x1b]0;owned\x07\u{202e}\r\n@evil.example",
            Ok(both("plus\x1b[31m", (50.0, 7_000), (50.0, 3 * DAY))),
        ),
        ("refused", "r@example.com", Ok(refused)),
        ("monthly", "m@example.com", Ok(reading("plus", vec![window(30 * DAY, 3.0, 11 * DAY)]))),
        ("expired", "x@example.com", Err("HTTP 401 from chatgpt.com. Log in again: `prodex login -p expired`")),
        ("new", "new@example.com", Err("")),
    ]
}

fn with_rows<T>(live: bool, see: impl FnOnce(&[Row]) -> T) -> T {
    let accounts = accounts();
    let rows: Vec<Row> = accounts
        .iter()
        .enumerate()
        .map(|(index, (name, account, quota))| Row {
            name,
            current: index == 0,
            auth: "chatgpt",
            account: Some(account),
            quota: quota.as_ref().map_err(|error| *error),
            rotation: (*name == "main").then_some("disabled, 20% of each window kept back"),
            live: live.then(|| Live {
                age: quota.is_ok().then_some(index as u64 * 7),
                asking: *name == "new",
                problem: quota.as_ref().err().copied().filter(|error| !error.is_empty()),
            }),
        })
        .collect();
    // Who is still asked is known in a live view only.
    see(if live { &rows } else { &rows[..rows.len() - 1] })
}

fn pool() -> Pool {
    Pool {
        known: 9,
        ready: 7,
        left: 61.7,
        per_hour: Some(4.25),
        dry_at: Some(NOW + 12 * HOUR),
        next_back: Some((NOW + 3_245, 3)),
    }
}

#[test]
fn the_table() {
    for width in WIDTHS {
        let draw = |palette| {
            with_rows(false, |rows| {
                overview("Quota Overview", rows, Some(&pool()), width == 120, look(width, palette)).text(palette)
            })
        };
        let screen = draw(Palette::PLAIN);
        golden(&format!("quota-all-{width}"), &screen);
        for line in screen.lines() {
            assert!(text::width(line) <= width && !line.contains(char::is_control), "{width}: {line:?}");
        }
        for remaining in ["5h 63% left | weekly 88% left", "5h not started | weekly 78% left", "monthly 97% left"] {
            assert!(screen.contains(remaining), "{width}:\n{screen}");
        }
    }
    let all = |palette| {
        with_rows(false, |rows| overview("Quota Overview", rows, Some(&pool()), false, look(80, palette)).text(palette))
    };
    golden("quota-all-80-colour", &all(Palette { colour: true, utf8: true }));
    golden("quota-all-80-ascii", &all(Palette { colour: false, utf8: false }));
}

#[test]
fn a_view_that_stays_at_the_height_of_the_terminal() {
    for (width, height, from) in [(80, 24, 0), (80, 50, 0), (40, 12, 3)] {
        let look = look(width, Palette::PLAIN);
        let frame = with_rows(true, |rows| {
            overview("Quota Watch", rows, Some(&pool()), false, look).fit(
                height,
                from,
                "q quits | asking 1 of 11...",
                look,
            )
        });
        assert!(frame.lines.len() <= height, "{}", frame.lines.len());
        golden(&format!("quota-live-{width}x{height}"), &(frame.lines.join("\n") + "\n"));
    }
}

#[test]
fn one_account() {
    let spark = Limit {
        name: "GPT-5.3-Codex-Spark".to_owned(),
        windows: vec![window(5 * HOUR, 100.0, 900), window(7 * DAY, 64.0, 2 * DAY)],
    };
    let full = Reading {
        other_limits: vec![
            spark,
            Limit { name: "Code review".to_owned(), windows: vec![window(7 * DAY, 1.0, 7 * DAY)] },
        ],
        credits: Some(Credits { has_credits: true, unlimited: false, balance: Some("12.50".to_owned()) }),
        reset_credits: Some(2),
        ..both("pro", (88.0, 6_012), (12.0, 4 * DAY))
    };
    for width in WIDTHS {
        let row = Row {
            name: "日本語アカウント",
            current: true,
            auth: "chatgpt",
            account: Some("名前\x1b[2J@例え.jp"),
            quota: Ok(&full),
            rotation: None,
            live: None,
        };
        let screen = single(&row, look(width, Palette::PLAIN)).text(Palette::PLAIN);
        golden(&format!("quota-{width}"), &screen);
        assert!(screen.lines().all(|line| text::width(line) <= width), "{width}:\n{screen}");
    }
}
