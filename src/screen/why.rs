//! The ranking of profiles for fresh work as people read it (spec S-15). Knows no rule: places, numbers and words come from
//! `quota::schedule`.

use super::table::{Column, Layout};
use super::{NARROWEST, join, text, time, title};
use crate::quota::schedule::{Ranked, Rule};

/// One profile; they come in the order of the rule.
pub struct Row<'a> {
    pub ranked: &'a Ranked,
    /// Seconds since its quota was read.
    pub age: Option<u64>,
}

const COLUMNS: [Column; 5] = [
    Column::whole("#", None),
    Column { title: "PROFILE", least: 8, fair: 24, rank: None },
    Column::whole("SCORE", Some(2)),
    Column::whole("BECAUSE", Some(1)),
    Column::whole("READ", Some(0)),
];

const BECAUSE: usize = 3;
const INDENT: &str = "   ";

pub fn why(rows: &[Row], width: usize) -> String {
    let width = width.max(NARROWEST);
    let cells: Vec<Vec<String>> = rows.iter().enumerate().map(|(place, row)| cells(place, row)).collect();
    let layout = Layout::new(&COLUMNS, &cells, width).unwrap_or(Layout(vec![None, Some(width)]));
    let mut lines = vec![title("Why", width)];
    lines.extend(text::wrap(&verdict(rows), width));
    lines.push(String::new());
    lines.push(layout.line(COLUMNS.iter().map(|column| column.title)));
    lines.push("-".repeat(width));
    for (row, cells) in rows.iter().zip(&cells) {
        lines.push(layout.line(cells.iter().map(String::as_str)));
        let mut numbers = text::clean(&row.ranked.numbers);
        let because = row.ranked.rule.words();
        if !layout.shows(BECAUSE) && !numbers.starts_with(because) {
            numbers.insert_str(0, &format!("{because}: "));
        }
        let numbers = text::wrap(&numbers, width - INDENT.len());
        lines.extend(numbers.into_iter().map(|line| INDENT.to_owned() + &line));
    }
    join(&lines)
}

fn verdict(rows: &[Row]) -> String {
    match rows.first().map(|row| row.ranked).filter(|ranked| ranked.eligible) {
        Some(first) => format!("Fresh work goes to {}: {}.", text::clean(&first.name), first.rule.words()),
        None => "No profile can take fresh work now.".to_owned(),
    }
}

fn cells(place: usize, row: &Row) -> Vec<String> {
    let ranked = row.ranked;
    let age = row.age.map_or("-".to_owned(), time::ago);
    vec![
        if ranked.eligible { (place + 1).to_string() } else { "-".to_owned() },
        text::clean(&ranked.name),
        ranked.score.filter(|_| ranked.rule != Rule::Ineligible).map_or("-".to_owned(), |score| format!("{score:.2}")),
        ranked.rule.words().to_owned(),
        age,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranked() -> Vec<Ranked> {
        let row = |name: &str, score, rule, numbers: &str| Ranked {
            name: name.to_owned(),
            eligible: rule != Rule::Ineligible,
            score,
            numbers: numbers.to_owned(),
            rule,
        };
        vec![
            row(
                "work",
                Some(0.31),
                Rule::Pace,
                "week 62% left / 3d 4h (pace x1.37), 5h 81% (2h 10m), 1 active -> 0.31",
            ),
            row("日本", None, Rule::Unmeasured, "quota unknown, 0 active"),
            row("out", Some(-5.0), Rule::Ineligible, "week 0% left / 3d 4h (pace x0.00), 0 active -> no: exhausted"),
        ]
    }

    fn screen(width: usize) -> String {
        let ranked = ranked();
        let rows: Vec<Row> =
            ranked.iter().zip([Some(12), None, Some(7_800)]).map(|(ranked, age)| Row { ranked, age }).collect();
        why(&rows, width)
    }

    #[test]
    fn places_numbers_and_words() {
        assert_eq!(
            screen(80),
            "[ Why ] ========================================================================\n\
             Fresh work goes to work: best pace.\n\n\
             #  PROFILE  SCORE  BECAUSE         READ\n\
             --------------------------------------------------------------------------------\n\
             1  work     0.31   best pace       12s ago\n   \
             week 62% left / 3d 4h (pace x1.37), 5h 81% (2h 10m), 1 active -> 0.31\n\
             2  日本     -      quota unknown   -\n   \
             quota unknown, 0 active\n\
             -  out      -      cannot be used  2h 10m ago\n   \
             week 0% left / 3d 4h (pace x0.00), 0 active -> no: exhausted\n"
        );
        assert!(why(&[], 80).contains("No profile can take fresh work now."));
    }

    #[test]
    fn on_a_narrow_screen_the_reason_stands_with_the_numbers() {
        let end = "2  日本     -\n   quota unknown, 0 active\n\
                   -  out      -\n   cannot be used: week 0%\n   left / 3d 4h (pace x0.00),\n   0 active -> no: exhausted\n";
        assert!(screen(30).ends_with(end), "{}", screen(30));
        for width in NARROWEST..120 {
            assert!(!screen(width).contains('…'), "{width}: {}", screen(width));
        }
    }

    #[test]
    fn no_line_is_wider_than_the_screen() {
        for width in NARROWEST..120 {
            assert!(screen(width).lines().all(|line| text::width(line) <= width), "{width}");
        }
    }
}
