//! Aligned columns, two blanks apart.

use super::{Ui, text::printable, ui::Style};

/// A table with a heading.
pub(crate) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<Cell>>,
}

/// One value and its colour.
pub(crate) struct Cell {
    text: String,
    style: Style,
}

#[derive(Clone, Copy)]
enum Align {
    Left,
    Right,
}

impl Table {
    /// A table with these headings. Columns whose heading begins with `>` hold numbers and are aligned right.
    pub(crate) fn new(headings: &[&'static str]) -> Self {
        let columns = headings
            .iter()
            .map(|h| h.strip_prefix('>').map_or((*h, Align::Left), |h| (h, Align::Right)))
            .collect();
        Self { columns, rows: Vec::new() }
    }

    /// Adds a row with one cell per heading.
    pub(crate) fn row(&mut self, cells: Vec<Cell>) {
        debug_assert_eq!(cells.len(), self.columns.len());
        self.rows.push(cells);
    }

    /// The lines, each after `indent`.
    pub(crate) fn render(&self, ui: &Ui, indent: &str) -> String {
        let widths: Vec<usize> = self
            .columns
            .iter()
            .enumerate()
            .map(|(i, (heading, _))| {
                self.rows.iter().map(|row| row[i].width()).chain([heading.len()]).max().unwrap_or(0)
            })
            .collect();
        let heading = self.columns.iter().map(|(h, _)| Cell::new(*h).style(Style::Dim)).collect();
        let mut lines = String::new();
        for row in std::iter::once(&heading).chain(&self.rows) {
            lines.push_str(&self.line(row, &widths, ui, indent));
        }
        lines
    }

    fn line(&self, row: &[Cell], widths: &[usize], ui: &Ui, indent: &str) -> String {
        let mut line = indent.to_owned();
        let mut gap = 0;
        for ((cell, width), (_, align)) in row.iter().zip(widths).zip(&self.columns) {
            let room = width - cell.width();
            let (before, after) = match align {
                Align::Left => (0, room),
                Align::Right => (room, 0),
            };
            // Blanks are held back until something follows them, so that no line ends in one.
            line.push_str(&" ".repeat(gap + before));
            line.push_str(&ui.paint(&cell.text, cell.style));
            gap = after + 2;
        }
        line.push('\n');
        line
    }
}

impl Cell {
    /// A value; what a terminal would obey in it is made harmless.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { text: printable(&text.into()), style: Style::Plain }
    }

    /// A value, or a hyphen.
    pub(crate) fn or_hyphen(text: Option<impl ToString>) -> Self {
        text.map_or_else(|| Self::new("-").style(Style::Dim), |text| Self::new(text.to_string()))
    }

    /// The same in a colour.
    pub(crate) fn style(self, style: Style) -> Self {
        Self { style, ..self }
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}
