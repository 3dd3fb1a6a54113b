//! Columns for a given width: the least important ones shrink, then disappear. Knows nothing of what is in them.

use super::text;

/// Spaces between two columns.
pub const GAP: usize = 2;

pub struct Column {
    pub title: &'static str,
    /// A column is dropped rather than another made narrower than this, or than its content where that is narrower.
    pub least: usize,
    /// A column of rank 0 is dropped rather than another made narrower than this.
    pub fair: usize,
    /// The lowest goes first when there is no room; `None` stays whatever happens.
    pub rank: Option<u8>,
}

impl Column {
    /// Its content is never cut: it is shown whole or not at all.
    pub const fn whole(title: &'static str, rank: Option<u8>) -> Column {
        Column { title, least: usize::MAX, fair: usize::MAX, rank }
    }
}

/// A layout: for each column its width, or `None` where it is dropped.
#[derive(Debug, PartialEq, Eq)]
pub struct Layout(pub Vec<Option<usize>>);

impl Layout {
    /// `None` when not even the columns that must stay fit. Cells are clean text.
    pub fn new(columns: &[Column], rows: &[Vec<String>], width: usize) -> Option<Layout> {
        let natural: Vec<usize> = columns
            .iter()
            .enumerate()
            .map(|(i, column)| {
                let cells = rows.iter().filter_map(|row| row.get(i)).map(|cell| text::width(cell));
                cells.max().unwrap_or(0).max(text::width(column.title))
            })
            .collect();
        let mut shown = vec![true; columns.len()];
        let widths = |shown: &[bool], limit: &dyn Fn(&Column) -> usize| -> Vec<Option<usize>> {
            let all = shown.iter().zip(columns).zip(&natural);
            all.map(|((shown, column), natural)| shown.then(|| limit(column).min(*natural))).collect()
        };
        if total(&widths(&shown, &|column| column.fair)) > width {
            shown = columns.iter().map(|column| column.rank != Some(0)).collect();
        }
        let mut widths = loop {
            let least = widths(&shown, &|column| column.least);
            if total(&least) <= width {
                break least;
            }
            let droppable =
                columns.iter().enumerate().filter(|(i, _)| shown[*i]).filter_map(|(i, c)| Some((c.rank?, i)));
            let (_, cheapest) = droppable.min()?;
            shown[cheapest] = false;
        };
        // What is left over goes to the important ones first.
        let mut order: Vec<usize> = (0..columns.len()).collect();
        order.sort_unstable_by_key(|&i| (std::cmp::Reverse(columns[i].rank.unwrap_or(u8::MAX)), i));
        for i in order {
            let spare = width - total(&widths);
            if let Some(own) = &mut widths[i] {
                *own = natural[i].min(*own + spare);
            }
        }
        Some(Layout(widths))
    }

    pub fn shows(&self, column: usize) -> bool {
        self.0.get(column).is_some_and(Option::is_some)
    }

    /// One line, without spaces at its end.
    pub fn line<'a>(&self, cells: impl IntoIterator<Item = &'a str>) -> String {
        self.painted(cells, |_, text| text.to_owned())
    }

    /// The same; `paint` gets each cell as it is shown, with the number of its column, and may not change its width.
    pub fn painted<'a>(
        &self,
        cells: impl IntoIterator<Item = &'a str>,
        paint: impl Fn(usize, &str) -> String,
    ) -> String {
        let shown = self.0.iter().zip(cells).enumerate().filter_map(|(column, (width, cell))| {
            let padded = text::pad(cell, (*width)?);
            let (text, spaces) = padded.split_at(padded.trim_end().len());
            Some(paint(column, text) + spaces)
        });
        shown.collect::<Vec<_>>().join(&" ".repeat(GAP)).trim_end().to_owned()
    }
}

fn total(widths: &[Option<usize>]) -> usize {
    let shown = widths.iter().flatten();
    shown.clone().sum::<usize>() + GAP * shown.count().saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 3] = [
        Column { title: "NAME", least: 4, fair: 12, rank: Some(3) },
        Column { title: "NOTE", least: 6, fair: 6, rank: Some(1) },
        Column::whole("LEFT", None),
    ];

    fn rows() -> Vec<Vec<String>> {
        vec![["日本語アカウント", "something", "63%"], ["b", "x", "100% left"]]
            .into_iter()
            .map(|row| row.map(str::to_owned).to_vec())
            .collect()
    }

    #[test]
    fn the_least_important_column_shrinks_then_goes() {
        let widths = |width| Layout::new(&COLUMNS, &rows(), width).map(|layout| layout.0);
        assert_eq!(widths(80), Some(vec![Some(16), Some(9), Some(9)]));
        assert_eq!(widths(35), Some(vec![Some(16), Some(6), Some(9)]));
        assert_eq!(widths(23), Some(vec![Some(4), Some(6), Some(9)]));
        assert_eq!(widths(22), Some(vec![Some(11), None, Some(9)]));
        assert_eq!(widths(14), Some(vec![None, None, Some(9)]));
        assert_eq!(widths(8), None);
    }

    #[test]
    fn a_cheap_column_goes_before_another_gets_tight() {
        let columns = [Column { title: "NAME", least: 4, fair: 12, rank: None }, Column::whole("CHEAP", Some(0))];
        let widths = |width| Layout::new(&columns, &rows(), width).map(|layout| layout.0);
        assert_eq!(widths(23), Some(vec![Some(12), Some(9)]));
        assert_eq!(widths(22), Some(vec![Some(16), None]));
        assert_eq!(widths(9), Some(vec![Some(9), None]));
    }

    #[test]
    fn a_line_is_padded_in_cells_and_not_at_its_end() {
        let layout = Layout::new(&COLUMNS, &rows(), 35).unwrap();
        assert_eq!(layout.line(["日本", "something", "1%"]), "日本              somet…  1%");
    }
}
