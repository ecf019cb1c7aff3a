//! What a file says, made fit for people to read: shortened, and without what a terminal would take for commands.

use std::fmt::{self, Write};

/// How many bytes of a name are shown.
const MAX_NAME_SHOWN: usize = 120;

/// The beginning of how `value` shows itself, about `limit` bytes of it, with `…` where something was left out. What is left
/// out is not even made. Control characters are escaped.
pub(crate) fn shortened(value: impl fmt::Display, limit: usize) -> String {
    let mut short = Short { text: String::new(), limit };
    if write!(short, "{value}").is_err() {
        short.text.push('…');
    }
    short.text
}

/// A text with its control characters escaped, lines and tabs among them.
pub(crate) fn printable(text: &str) -> String {
    shortened(text, usize::MAX)
}

/// A name, as texts for people have it.
pub(crate) fn short_name(name: &str) -> String {
    shortened(name, MAX_NAME_SHOWN)
}

struct Short {
    text: String,
    limit: usize,
}

impl Write for Short {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let left = self.limit.saturating_sub(self.text.len());
        let fits = part.len() <= left;
        let shown = if fits { part } else { &part[..part.floor_char_boundary(left)] };
        for c in shown.chars() {
            if c.is_control() {
                self.text.extend(c.escape_default());
            } else {
                self.text.push(c);
            }
        }
        if fits { Ok(()) } else { Err(fmt::Error) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_end_in_an_ellipsis() {
        fn check(text: &str, limit: usize, expected: &str) {
            assert_eq!(shortened(text, limit), expected);
        }
        check("", 0, "");
        check("ab", 2, "ab");
        check("abc", 2, "ab…");
        check("×××", 3, "×…");
        check("a", 0, "…");
        assert_eq!(shortened(format_args!("{}-{}", "ab", "cd"), 4), "ab-c…");
        assert_eq!(printable("a\u{1b}[2J\n×"), "a\\u{1b}[2J\\n×");
        assert_eq!(short_name(&"n".repeat(1 << 20)).len(), MAX_NAME_SHOWN + '…'.len_utf8());
    }
}
