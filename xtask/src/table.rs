//! Small aligned tables for the terminal.

/// Lays rows out in columns: the first column to the left, the others to the right. The first row is the heading.
pub(crate) fn render(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = widths[column];
            let cell = if column == 0 { format!("{cell:<width$}") } else { format!("  {cell:>width$}") };
            line.push_str(&cell);
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A span of time as a person reads it: `0.4 s`, `12.3 s`, `3 min 05 s`.
pub(crate) fn seconds(span: std::time::Duration) -> String {
    if span.as_secs() < 60 {
        format!("{:.1} s", span.as_secs_f64())
    } else {
        format!("{} min {:02} s", span.as_secs() / 60, span.as_secs() % 60)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn columns_line_up() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let text = render(&[row(["feed", "frames", "fps"]), row(["entrance", "5", "12.5"])]);
        assert_eq!(text, "feed      frames   fps\nentrance       5  12.5\n");
        assert_eq!(render(&[]), "");
    }

    #[test]
    fn spans_are_readable() {
        let check = |ms, expected: &str| assert_eq!(seconds(Duration::from_millis(ms)), expected);
        check(440, "0.4 s");
        check(59_900, "59.9 s");
        check(185_000, "3 min 05 s");
    }
}
