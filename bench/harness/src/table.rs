//! Tables for people.

/// Lays `rows` out in columns, the first row being the heads: the first `left` columns flush left, the others flush right.
pub fn lay_out<const N: usize>(rows: &[[String; N]], left: usize) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            let cell = if column < left { format!("{cell:<width$}") } else { format!("{cell:>width$}") };
            line.push_str(&cell);
            line.push_str("  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A number with as many digits as mean something: `1312`, `18.2`, `0.994`.
pub fn short(value: f64) -> String {
    if value == 0.0 || value.abs() >= 100.0 {
        format!("{value:.0}")
    } else if value.abs() >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.3}")
    }
}

/// The same, where there may be none.
pub fn short_or_dash(value: Option<f64>) -> String {
    value.map_or("–".to_owned(), short)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_digits_that_mean_something() {
        let check = |value, expected: &str| assert_eq!(short(value), expected);
        check(0.0, "0");
        check(1312.4, "1312");
        check(18.24, "18.2");
        check(0.9944, "0.994");
        check(-0.5, "-0.500");
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["case", "ms"], ["a", "12.5"], ["größer", "3"]].map(|row| row.map(str::to_owned));
        assert_eq!(lay_out(&rows, 1), "case      ms\na       12.5\ngrößer     3\n");
    }
}
