//! Screens at several widths, and what holds at every width.

use super::super::palette::Palette;
use super::super::{Look, NARROWEST};
use super::*;
use crate::quota::{Credits, Window};

const NOW: u64 = 1_795_581_131; // 2026-11-25 04:32:11 UTC

fn utc(_: u64) -> i32 {
    0
}

fn window(length: u64, used: f64, resets_in: u64) -> Window {
    Window { length, used_percent: Some(used), resets_at: Some(NOW + resets_in) }
}

fn reading(plan: &str, windows: Vec<Window>) -> Reading {
    Reading { plan: Some(plan.to_owned()), windows, taken_at: NOW, ..Reading::default() }
}

fn both(plan: &str, five: f64, week: f64) -> Reading {
    reading(plan, vec![window(18_000, five, 6_000), window(604_800, week, 400_000)])
}

fn row<'a>(name: &'a str, account: &'a str, quota: Result<&'a Reading, &'a str>) -> Row<'a> {
    Row { name, current: name == "main", auth: "chatgpt", account: Some(account), quota, rotation: None, live: None }
}

fn look(width: usize) -> Look<'static> {
    Look { now: NOW, width, zone: &utc, palette: Palette::PLAIN }
}

fn table(rows: &[Row], width: usize, detail: bool) -> String {
    super::overview("Quota Overview", rows, None, detail, look(width)).text(Palette::PLAIN)
}

/// The rows of most tests, in an order that is not the right one.
fn with_rows<T>(see: impl FnOnce(&[Row]) -> T) -> T {
    let main = both("plus", 37.0, 12.0);
    let spark = Limit { name: "GPT-5.3-Codex-Spark".to_owned(), windows: vec![window(18_000, 100.0, 900)] };
    let other = Reading { other_limits: vec![spark], ..both("plus", 5.0, 12.0) };
    let blocked = both("team", 100.0, 12.0);
    let later = reading("team", vec![window(604_800, 100.0, 90_000)]);
    let weekly = reading("free", vec![window(604_800, 0.0, 604_800)]);
    see(&[
        row("expired", "x@example.com", Err("log in again: `prodex login -p expired` (HTTP 401)")),
        row("zz-later", "later@example.com", Ok(&later)),
        row("blocked", "blocked@example.com", Ok(&blocked)),
        row("日本語アカウント", "名前@例え.jp", Ok(&weekly)),
        row("other", "a.very.long.address.of.somebody@subdomain.example.com", Ok(&other)),
        row("main", "main@example.com", Ok(&main)),
    ])
}

#[test]
fn the_table_at_80_columns() {
    let screen = with_rows(|rows| table(rows, 80, false));
    let expected = "\
[ Quota Overview ] =============================================================
PROFILE           CUR  ACCOUNT               PLAN  REMAINING
--------------------------------------------------------------------------------
main              *    main@example.com      plus  5h 63% left | weekly 88% left
  ▸5h     ██████████▌░░░░░░ 1h 40m 00s     weekly ███████████████░░ 4d 15h
  status: Ready

other                  a.very.long.address…  plus  5h 95% left | weekly 88% left
   5h     ████████████████░ 1h 40m 00s    ▸weekly ███████████████░░ 4d 15h
  status: Ready; GPT-5.3-Codex-Spark 5h exhausted until 2026-11-25 04:47 +00:00

日本語アカウント       名前@例え.jp          free  weekly not started
   weekly █████████████████ not started
  status: Ready

blocked                blocked@example.com   team  5h 0% left | weekly 88% left
  ▸5h     ░░░░░░░░░░░░░░░░░ 1h 40m 00s     weekly ███████████████░░ 4d 15h
  status: Blocked: 5h exhausted until 2026-11-25 06:12 +00:00

zz-later               later@example.com     team  weekly 0% left
   weekly ░░░░░░░░░░░░░░░░░ 1d 1h
  status: Blocked: weekly exhausted until 2026-11-26 05:32 +00:00

expired                x@example.com         -     -
  status: Error: log in again: `prodex login -p expired` (HTTP 401)
";
    assert_eq!(screen, expected, "\n{screen}");
}

#[test]
fn the_table_at_40_columns() {
    let look = Look { zone: &|_| -12_600, ..look(40) };
    let screen = with_rows(|rows| super::overview("Quota Overview", &rows[4..], None, true, look).text(Palette::PLAIN));
    let expected = "\
[ Quota Overview ] =====================
PROFILE  REMAINING
----------------------------------------
*main    5h 63% left | weekly 88% left
  ▸5h     ███████████▌░░░░░░ 1h 40m 00s
   weekly ████████████████░░ 4d 15h
  status: Ready
  resets: 5h 2026-11-25 02:42 -03:30 |
  weekly 2026-11-29 16:08 -03:30

other    5h 95% left | weekly 88% left
   5h     █████████████████░ 1h 40m 00s
  ▸weekly ████████████████░░ 4d 15h
  status: Ready; GPT-5.3-Codex-Spark 5h
  exhausted until 2026-11-25 01:17
  -03:30
  resets: 5h 2026-11-25 02:42 -03:30 |
  weekly 2026-11-29 16:08 -03:30
";
    assert_eq!(screen, expected, "\n{screen}");
}

#[test]
fn three_windows_go_below_on_a_narrow_screen() {
    let windows = vec![window(18_000, 40.0, 60), window(604_800, 1.5, 90_000), window(2_592_000, 0.0, 2_592_000)];
    let r = reading("plus", windows);
    let screen = table(&[row("main", "m@example.com", Ok(&r))], 40, false);
    let expected = "\
[ Quota Overview ] =====================
PROFILE  CUR  ACCOUNT        PLAN
----------------------------------------
main     *    m@example.com  plus
  5h 60% left | weekly 98% left |
  monthly not started
  ▸5h      ██████████░░░░░░░ 1m 00s
   weekly  ████████████████▌ 1d 1h
   monthly █████████████████ not started
  status: Ready
";
    assert_eq!(screen, expected, "\n{screen}");
}

#[test]
fn what_goes_below_does_not_take_the_other_rows_along() {
    let windows = vec![window(18_000, 40.0, 60), window(604_800, 1.5, 90_000), window(2_592_000, 0.0, 2_592_000)];
    let (three, two) = (reading("plus", windows), reading("plus", vec![window(604_800, 12.0, 90_000)]));
    let rows = [row("three", "m@example.com", Ok(&three)), row("main", "m@example.com", Ok(&two))];
    let screen = table(&rows, 40, false);
    assert!(screen.contains("\nthree\n  5h 60% left | weekly 98% left |\n  monthly not started\n"), "{screen}");
    assert!(screen.lines().any(|line| line.starts_with("main ") && line.ends_with("weekly 88% left")), "{screen}");
}

#[test]
fn nothing_is_wider_than_the_screen_and_remaining_is_whole() {
    let hostile = Reading {
        plan: Some("plus\x1b[31m\n".repeat(50)),
        email: Some("é👩\u{200d}👩\u{200d}👧\u{202e}".repeat(60)),
        other_limits: vec![Limit { name: "\r\n日本".repeat(90), windows: vec![window(u64::MAX, 100.0, 1)] }],
        ..both("x", 1e300, 0.1)
    };
    for width in (NARROWEST..=130).chain([200, 500]) {
        let screen = with_rows(|rows| table(rows, width, true))
            + &table(
                &[Row { account: None, ..row("日本\x07👩\u{200d}👩\u{200d}👧e\u{301}", "", Ok(&hostile)) }],
                width,
                true,
            );
        for line in screen.lines() {
            assert!(text::width(line) <= width, "{width}: {line}");
            assert!(!line.contains(char::is_control) && !line.ends_with(' '), "{width}: {line:?}");
        }
        if width >= 40 {
            for remaining in ["5h 63% left | weekly 88% left", "5h 0% left | weekly 88% left", "weekly not started"] {
                assert!(screen.contains(remaining), "{width}: {screen}");
            }
        }
    }
}

#[test]
fn wide_screens_show_everything() {
    for width in [120, 200] {
        let screen = with_rows(|rows| table(rows, width, false));
        assert!(screen.contains("PROFILE           CUR  AUTH     ACCOUNT"), "{screen}");
    }
    let screen = with_rows(|rows| table(rows, 200, false));
    assert!(screen.contains("a.very.long.address.of.somebody@subdomain.example.com"), "{screen}");
    assert!(screen.contains("zz-later               chatgpt  later@example.com "), "{screen}");
}

#[test]
fn the_panel_of_one_account() {
    let credits = Credits { has_credits: true, unlimited: false, balance: Some("12.50".to_owned()) };
    let r = Reading { credits: Some(credits), reset_credits: Some(2), ..both("plus", 37.0, 12.0) };
    let spark = Limit { name: "Code review".to_owned(), windows: vec![window(604_800, 1.0, 604_800)] };
    let r = Reading { other_limits: vec![spark], ..r };
    let expected = "\
[ Quota main ] =================================================================
Profile:      main
Account:      main@example.com
Plan:         plus
Status:       Ready
Main:         5h: 63% left (37% used), resets 2026-11-25 06:12 +00:00 |
              weekly: 88% left (12% used), resets 2026-11-29 19:38 +00:00
Code review:  weekly: 99% left (not started)
Credits:      12.50
Early resets: 2 available

▸5h     ███████████████░░░░░░░░░ resets in 1h 40m 00s
 weekly █████████████████████░░░ resets in 4d 15h
Code review
 weekly ███████████████████████▌ not started
";
    assert_eq!(single(&row("main", "main@example.com", Ok(&r)), look(80)).text(Palette::PLAIN), expected);
}

#[test]
fn refusals_and_unknowns_in_words() {
    let mut r = both("team", 10.0, 10.0);
    r.limit_reached = true;
    r.reached_type = Some("workspace_member_credits_depleted".to_owned());
    assert_eq!(status(Ok(&r), NOW, &utc), "Blocked: the workspace is out of credits");
    r.reached_type = Some("new\nkind".to_owned());
    assert_eq!(status(Ok(&r), NOW, &utc), "Blocked: the backend says that the limit is reached (new\u{fffd}kind)");
    let empty = reading("plus", vec![]);
    assert_eq!(status(Ok(&empty), NOW, &utc), "Unknown: the backend reported no quota window");
    assert!(table(&[row("a", "b", Ok(&empty))], 40, true).contains("resets: unavailable"));
    assert!(table(&[], 40, true).starts_with("[ Quota Overview ]"));
}

#[test]
fn a_view_that_stays_says_how_old_it_is_and_what_it_waits_for() {
    let main = both("plus", 37.0, 12.0);
    let live = |age, asking, problem| Some(Live { age, asking, problem });
    let words = |quota, live| Row { live, ..row("a", "b", quota) }.words(NOW, &utc);
    assert_eq!(words(Ok(&main), live(Some(12), true, None)), "Ready; read 12s ago");
    assert_eq!(
        words(Ok(&main), live(Some(120), false, Some("HTTP\n500"))),
        "Ready; not renewed: HTTP\u{fffd}500; read 2m ago"
    );
    assert_eq!(words(Err(""), live(None, true, None)), "asking the backend...");
    let kept = Row { rotation: Some("disabled"), ..row("a", "b", Ok(&main)) };
    assert_eq!(kept.words(NOW, &utc), "Ready; disabled");
    assert_eq!(words(Err("no"), live(None, true, Some("no"))), "Error: no");
}

#[test]
fn the_pool_stands_below() {
    let pool = Pool {
        known: 5,
        ready: 3,
        left: 61.7,
        per_hour: Some(4.25),
        dry_at: Some(NOW + 43_200),
        next_back: Some((NOW + 6_000, 2)),
    };
    let foot = |width| with_rows(|rows| super::overview("Q", rows, Some(&pool), false, look(width)).foot).split_off(1);
    assert_eq!(
        foot(100),
        [
            "Pool:  ███████████████░░░░░░░░░ 61% left in 5 of 6 accounts, 3 ready",
            "       4.2% an hour: dry in 12h | blocked is back in 1h 40m 00s"
        ]
    );
    assert_eq!(
        foot(40),
        [
            "Pool:  61% left in 5 of 6 accounts, 3",
            "       ready |",
            "       4.2% an hour: dry in 12h |",
            "       blocked is back in 1h 40m 00s"
        ]
    );
    for width in NARROWEST..140 {
        assert!(foot(width).iter().all(|line| text::width(line) <= width), "{width}");
    }
}

#[test]
fn colour_changes_no_width_and_no_word() {
    let colour = Palette { colour: true, utf8: true };
    for width in [20, 40, 80, 120] {
        let painted = with_rows(|rows| {
            super::overview("Q", rows, None, true, Look { palette: colour, ..look(width) }).text(colour)
        });
        let mut bare = painted.clone();
        while let Some(at) = bare.find('\x1b') {
            let end = bare[at..].find('m').unwrap();
            bare.replace_range(at..=at + end, "");
        }
        assert_eq!(bare, with_rows(|rows| super::overview("Q", rows, None, true, look(width)).text(Palette::PLAIN)));
        assert!(painted.contains("\x1b[32mReady\x1b[0m"), "{painted}");
    }
}
