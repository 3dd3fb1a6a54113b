//! Screens at several widths, and what holds at every width.

use super::*;
use crate::quota::Credits;

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
    Row { name, current: name == "main", auth: "chatgpt", account: Some(account), quota }
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
    let screen = with_rows(|rows| overview(rows, NOW, 80, false, &utc));
    let expected = "\
[ Quota Overview ] =============================================================
PROFILE           CUR  ACCOUNT               PLAN  REMAINING
--------------------------------------------------------------------------------
main              *    main@example.com      plus  5h 63% left | weekly 88% left
  status: Ready

other                  a.very.long.address…  plus  5h 95% left | weekly 88% left
  status: Ready; GPT-5.3-Codex-Spark 5h exhausted until 2026-11-25 04:47 +00:00

日本語アカウント       名前@例え.jp          free  weekly not started
  status: Ready

blocked                blocked@example.com   team  5h 0% left | weekly 88% left
  status: Blocked: 5h exhausted until 2026-11-25 06:12 +00:00

zz-later               later@example.com     team  weekly 0% left
  status: Blocked: weekly exhausted until 2026-11-26 05:32 +00:00

expired                x@example.com         -     -
  status: Error: log in again: `prodex login -p expired` (HTTP 401)
";
    assert_eq!(screen, expected, "\n{screen}");
}

#[test]
fn the_table_at_40_columns() {
    let screen = with_rows(|rows| overview(&rows[4..], NOW, 40, true, &|_| -12_600));
    let expected = "\
[ Quota Overview ] =====================
PROFILE  REMAINING
----------------------------------------
*main    5h 63% left | weekly 88% left
  status: Ready
  resets: 5h 2026-11-25 02:42 -03:30 |
  weekly 2026-11-29 16:08 -03:30

other    5h 95% left | weekly 88% left
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
    let screen = overview(&[row("main", "m@example.com", Ok(&r))], NOW, 40, false, &utc);
    let expected = "\
[ Quota Overview ] =====================
PROFILE  CUR  ACCOUNT        PLAN
----------------------------------------
main     *    m@example.com  plus
  5h 60% left | weekly 98% left |
  monthly not started
  status: Ready
";
    assert_eq!(screen, expected, "\n{screen}");
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
        let screen = with_rows(|rows| overview(rows, NOW, width, true, &utc))
            + &overview(
                &[Row { account: None, ..row("日本\x07👩\u{200d}👩\u{200d}👧e\u{301}", "", Ok(&hostile)) }],
                NOW,
                width,
                true,
                &utc,
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
        let screen = with_rows(|rows| overview(rows, NOW, width, false, &utc));
        assert!(screen.contains("PROFILE           CUR  AUTH     ACCOUNT"), "{screen}");
    }
    let screen = with_rows(|rows| overview(rows, NOW, 200, false, &utc));
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
";
    assert_eq!(single(&row("main", "main@example.com", Ok(&r)), NOW, 80, &utc), expected);
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
    assert!(overview(&[row("a", "b", Ok(&empty))], NOW, 40, true, &utc).contains("resets: unavailable"));
    assert!(overview(&[], NOW, 40, true, &utc).starts_with("[ Quota Overview ]"));
}
