//! A table for people.

/// How wide a column of figures is.
const COLUMN: usize = 14;

/// Rows of cells under a title.
pub(super) struct Table {
    text: String,
    /// How wide the column of names is.
    names: usize,
}

impl Table {
    pub(super) fn new(title: &str, names: usize, columns: &[&str]) -> Self {
        let mut table = Self { text: format!("{title}\n"), names };
        table.row("", columns.iter().map(|column| (*column).to_owned()));
        table
    }

    pub(super) fn row(&mut self, name: &str, cells: impl IntoIterator<Item = String>) {
        let mut line = format!("  {name:<names$}", names = self.names);
        for cell in cells {
            line.push_str(&format!("{cell:>COLUMN$}"));
        }
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }

    pub(super) fn finish(self) -> String {
        self.text
    }
}
