use std::ops::Range;

/// Where config comes from: a file with its text, or the command line, which has no places.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    file: Option<(String, String)>,
}

impl Origin {
    pub(crate) fn file(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { file: Some((name.into(), text.into())) }
    }

    pub(crate) fn command_line() -> Self {
        Self { file: None }
    }

    /// The place as `file:line:column`, counted from 1, columns in characters.
    pub(crate) fn place(&self, offset: usize) -> Option<String> {
        let (name, text) = self.file.as_ref()?;
        let before = &text.as_bytes()[..offset.min(text.len())];
        let line_start = before.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
        let line = before.iter().filter(|&&b| b == b'\n').count() + 1;
        let column = String::from_utf8_lossy(&before[line_start..]).chars().count() + 1;
        Some(format!("{name}:{line}:{column}"))
    }

    /// The message, with its place before it.
    pub(crate) fn say(&self, span: &Range<usize>, message: impl AsRef<str>) -> String {
        let message = message.as_ref();
        match self.place(span.start) {
            Some(place) => format!("{place}: {message}"),
            None => message.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_from_one_in_characters() {
        let origin = Origin::file("a.toml", "x = 1\nä = 'é' # ö\n");
        let check = |offset, expected: &str| assert_eq!(origin.place(offset).as_deref(), Some(expected), "{offset}");
        check(0, "a.toml:1:1");
        check(4, "a.toml:1:5");
        check(6, "a.toml:2:1");
        check(11, "a.toml:2:5");
        check(9999, "a.toml:3:1");
        assert_eq!(Origin::command_line().say(&(3..4), "no"), "no");
    }
}
