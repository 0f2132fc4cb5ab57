//! Tables with two spaces between the columns.

use std::fmt;

/// The alignment of a cell in its column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Left.
    Left,
    /// Right.
    Right,
}

/// Rows of cells under a header line.
#[derive(Debug)]
pub struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Returns a table with these headers.
    pub fn new(columns: &[(&'static str, Align)]) -> Table {
        Table { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].chars().count());
            cells.chain([self.columns[column].0.len()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let header: Vec<String> = self.columns.iter().map(|(name, _)| (*name).to_owned()).collect();
        for (number, row) in std::iter::once(&header).chain(&self.rows).enumerate() {
            for (column, cell) in row.iter().enumerate() {
                let width = widths[column];
                let separator = if column == 0 { "" } else { "  " };
                match self.columns[column].1 {
                    Align::Right if number > 0 => write!(f, "{separator}{cell:>width$}")?,
                    _ => write!(f, "{separator}{cell:<width$}")?,
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
