//! What stands under the table: how much all accounts have together, and how long that lasts (spec S-45).

use super::super::gauge;
use super::super::{Look, text, time};
use super::Row;
use crate::quota::pool::Pool;
use crate::quota::span_words;

const LABEL: &str = "Pool:  ";
/// Cells of the bar, and of a screen that has room for it.
const BAR: usize = 24;
const ROOMY: usize = 70;

pub(super) fn pool(pool: &Pool, rows: &[Row], look: Look) -> Vec<String> {
    let Look { now, width, palette, .. } = look;
    let accounts = if pool.known == rows.len() { String::new() } else { format!(" of {}", rows.len()) };
    let left = if pool.left > 0.0 { pool.left.floor().max(1.0) } else { 0.0 };
    let plural = if rows.len() == 1 { "" } else { "s" };
    let mut items = vec![format!("{left}% left in {}{accounts} account{plural}, {} ready", pool.known, pool.ready)];
    match (pool.per_hour, pool.dry_at) {
        (Some(pace), Some(at)) => {
            items.push(format!("{pace:.1}% an hour: dry in {}", span_words(at.saturating_sub(now))));
        }
        (Some(pace), None) if pace > 0.0 => items.push(format!("{pace:.1}% an hour: lasts")),
        (Some(_), None) => items.push("nothing used in the last hour".to_owned()),
        (None, _) => {}
    }
    if let Some((at, index)) = pool.next_back
        && let Some(row) = rows.get(index)
    {
        let name = text::elide(&text::clean(row.name), 24);
        items.push(format!("{name} is back in {}", time::countdown(at.saturating_sub(now))));
    }
    let mut lines = vec![String::new()];
    if width >= ROOMY {
        lines.push(format!("{LABEL}{} {}", gauge::bar(Some(pool.left), BAR, palette), items.remove(0)));
    }
    let indent = " ".repeat(LABEL.len());
    if !items.is_empty() {
        let wrapped = text::wrap_items(items.iter().map(String::as_str), width - LABEL.len());
        let first = lines.len() == 1;
        let label = |index: usize| if first && index == 0 { LABEL } else { indent.as_str() };
        lines.extend(wrapped.iter().enumerate().map(|(index, line)| format!("{}{line}", label(index))));
    }
    lines
}
