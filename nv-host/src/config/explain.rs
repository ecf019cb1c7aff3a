use nv_perception::redact_url;
use toml::de::{DeTable, DeValue};

/// The sentence for what the TOML reader found wrong in `text`: it names the key and its section, suggests what was
/// probably meant, says what was expected, and shows no value that might be a secret.
pub(crate) fn explain(error: &toml::de::Error, text: &str) -> String {
    let message = error.message();
    let place = error.span().map(|span| Place::find(text, span.start)).unwrap_or_default();
    if let Some((key, known)) = unknown(message, "unknown field `") {
        let section = place.section(&key);
        return format!("unknown key `{key}` {section}; {}", suggestion(&key, &known, "the keys here are"));
    }
    if let Some((value, known)) = unknown(message, "unknown variant `") {
        let value = redact_url(&value);
        return format!("{} is {value:?}; {}", place.subject(), suggestion(&value, &known, "it can be"));
    }
    if let Some(rest) = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "))
        && let Some((found, expected)) = rest.rsplit_once(", expected ")
    {
        return format!("{} must be {}, not {}", place.subject(), expectation(expected), description(found));
    }
    if let Some(key) = message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
        return format!("{} lacks the key `{key}`", place.table());
    }
    let message = message.lines().collect::<Vec<_>>().join("; ");
    let subject = if place.path.is_empty() { String::new() } else { format!("{}: ", place.subject()) };
    // A syntax error names no key; anything else that names an address may hold a password.
    if message.contains("://") { format!("{subject}{}", redact_url(&message)) } else { format!("{subject}{message}") }
}

/// "did you mean" the likeliest of `known`, or all of them.
pub(crate) fn suggestion<S: AsRef<str>>(word: &str, known: &[S], all: &str) -> String {
    match closest(word, known) {
        Some(closest) => format!("did you mean `{closest}`?"),
        None if known.is_empty() => "there are none".into(),
        None => {
            let known: Vec<_> = known.iter().map(|k| format!("`{}`", k.as_ref())).collect();
            format!("{all} {}", known.join(", "))
        }
    }
}

/// The word of `known` that is most like `word`, if one is like it enough to have been meant.
pub(crate) fn closest<'a, S: AsRef<str>>(word: &str, known: &'a [S]) -> Option<&'a str> {
    let likeness = |k: &&'a S| strsim::jaro_winkler(&word.to_lowercase(), &k.as_ref().to_lowercase());
    let best = known.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(&best) > 0.8).then(|| best.as_ref())
}

/// The word after `prefix`, and the words that would have been right.
fn unknown(message: &str, prefix: &str) -> Option<(String, Vec<String>)> {
    let (word, rest) = message.strip_prefix(prefix)?.split_once('`')?;
    let known = rest.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    Some((word.to_owned(), known))
}

/// Serde's words for what it wanted, for people.
fn expectation(expected: &str) -> &str {
    match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, 0 or more",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a string" => "a text in quotes",
        "a sequence" => "a list: [ … ]",
        "a map" => "a table",
        e if e.starts_with("struct ") => "a table",
        e if e.contains("enum ") || e.contains("variant") => "a text in quotes",
        e => e,
    }
}

/// Serde's words for what it found, for people. The value itself is left out where it is a text: it may be a secret.
fn description(found: &str) -> String {
    let number = || found.split('`').nth(1).unwrap_or_default();
    match found.split([' ', '`']).next().unwrap_or_default() {
        "string" => "a text".into(),
        "integer" => format!("the number {}", number()),
        "floating" => format!("the number {}", number()),
        "boolean" => number().to_owned(),
        "sequence" => "a list".into(),
        "map" => "a table".into(),
        _ => found.to_owned(),
    }
}

/// What an offset in a document points at.
#[derive(Debug, Default)]
struct Place {
    /// The keys that lead there; the elements of a list have none.
    path: Vec<String>,
    /// How many lists are on the way.
    in_list: bool,
}

impl Place {
    fn find(text: &str, offset: usize) -> Self {
        let (document, _) = DeTable::parse_recoverable(text);
        let mut best = Self::default();
        let mut path = Vec::new();
        search(document.get_ref(), offset, &mut path, false, &mut best);
        best
    }

    /// As in "`live` in `[[feed]]`".
    fn subject(&self) -> String {
        match self.path.split_last() {
            None => "the file".into(),
            Some((key, [])) => format!("`{key}`"),
            Some((key, container)) => format!("`{key}` in {}", self.header(container)),
        }
    }

    /// As in "in `[batch.detector]`", where the path may or may not end in the key itself.
    fn section(&self, key: &str) -> String {
        let container = match self.path.split_last() {
            Some((last, container)) if last == key => container,
            _ => &self.path[..],
        };
        if container.is_empty() { "at the top level".into() } else { format!("in {}", self.header(container)) }
    }

    /// As in "`[batch.detector]`".
    fn table(&self) -> String {
        if self.path.is_empty() { "the file".into() } else { self.header(&self.path) }
    }

    fn header(&self, path: &[String]) -> String {
        let name = path.join(".");
        if self.in_list { format!("[[{name}]]") } else { format!("[{name}]") }
    }
}

/// Finds the deepest key or value at `offset`. Tables with a header of their own do not contain their keys' places, so
/// every branch is looked at.
fn search(table: &DeTable<'_>, offset: usize, path: &mut Vec<String>, in_list: bool, best: &mut Place) {
    for (key, value) in table {
        path.push(key.get_ref().to_string());
        if key.span().contains(&offset) && path.len() >= best.path.len() {
            *best = Place { path: path.clone(), in_list };
        }
        search_value(value, offset, path, in_list, best);
        path.pop();
    }
}

fn search_value(
    value: &toml::Spanned<DeValue<'_>>,
    offset: usize,
    path: &mut Vec<String>,
    in_list: bool,
    best: &mut Place,
) {
    if value.span().contains(&offset) && path.len() >= best.path.len() {
        *best = Place { path: path.clone(), in_list };
    }
    match value.get_ref() {
        DeValue::Table(table) => search(table, offset, path, in_list, best),
        DeValue::Array(items) => {
            for item in items.iter() {
                let of_tables = matches!(item.get_ref(), DeValue::Table(_));
                search_value(item, offset, path, in_list || of_tables, best);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggestions_are_like_the_word() {
        let known = ["max_batch_size", "max_latency", "instances"];
        assert_eq!(closest("max_batchsize", &known), Some("max_batch_size"));
        assert_eq!(closest("latency", &known), Some("max_latency"));
        assert_eq!(closest("weather", &known), None);
        assert_eq!(closest("Instance", &known), Some("instances"));
        assert_eq!(suggestion("x", &known, "there are"), "there are `max_batch_size`, `max_latency`, `instances`");
    }
}
