use std::borrow::Cow;
use std::ops::Range;

use toml::de::{DeTable, DeValue};

/// Why a text could not be expanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExpandError {
    pub(crate) message: String,
    /// The text's place in the file.
    pub(crate) span: Range<usize>,
}

/// Expands `${VAR}` and `${VAR:-default}` in every text value of a document. Keys and comments stay as they are; `$${`
/// stands for `${`. As in a shell, an empty variable counts as not set where there is a default.
pub(crate) fn expand_document(
    document: &mut DeTable<'_>,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<(), ExpandError> {
    for (_, value) in document.iter_mut() {
        let span = value.span();
        expand_value(value.get_mut(), span, variable)?;
    }
    Ok(())
}

fn expand_value(
    value: &mut DeValue<'_>,
    span: Range<usize>,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<(), ExpandError> {
    match value {
        DeValue::String(text) => {
            let expanded = expand(text, variable).map_err(|message| ExpandError { message, span })?;
            if let Some(expanded) = expanded {
                *text = Cow::Owned(expanded);
            }
            Ok(())
        }
        DeValue::Array(items) => items.iter_mut().try_for_each(|item| {
            let span = item.span();
            expand_value(item.get_mut(), span, variable)
        }),
        DeValue::Table(table) => expand_document(table, variable),
        _ => Ok(()),
    }
}

/// The expanded text; `None` where there is nothing to expand.
fn expand(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<Option<String>, String> {
    if !text.contains("${") {
        return Ok(None);
    }
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, from) = rest.split_at(at);
        if let Some(before) = before.strip_suffix('$') {
            expanded.push_str(before);
            expanded.push_str("${");
            rest = &from[2..];
            continue;
        }
        expanded.push_str(before);
        let Some(end) = from.find('}') else {
            return Err("a ${ has no closing }; write $${ for a literal ${".into());
        };
        let (name, default) = match from[2..end].split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (&from[2..end], None),
        };
        if !is_name(name) {
            return Err(format!("${{{name}}} does not name an environment variable; write $${{ for a literal ${{"));
        }
        match (variable(name), default) {
            (Some(value), None) => expanded.push_str(&value),
            (Some(value), Some(_)) if !value.is_empty() => expanded.push_str(&value),
            (_, Some(default)) => expanded.push_str(default),
            (None, None) => {
                return Err(format!(
                    "the environment variable {name} is not set; set it, or give a default: ${{{name}:-…}}"
                ));
            }
        }
        rest = &from[end + 1..];
    }
    expanded.push_str(rest);
    Ok(Some(expanded))
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable(name: &str) -> Option<String> {
        match name {
            "USER" => Some("joe".into()),
            "EMPTY" => Some(String::new()),
            "ODD" => Some("${USER}\"}".into()),
            _ => None,
        }
    }

    #[test]
    fn texts_expand() {
        fn check(text: &str, expected: Result<Option<&str>, &str>) {
            let result = expand(text, &variable);
            let result = result.as_ref().map(|t| t.as_deref()).map_err(String::as_str);
            assert_eq!(result, expected, "{text}");
        }
        check("plain $ text }", Ok(None));
        check("rtsp://${USER}@x", Ok(Some("rtsp://joe@x")));
        check("${USER}${USER}", Ok(Some("joejoe")));
        check("${NOPE:-a:-b}", Ok(Some("a:-b")));
        check("${NOPE:-}", Ok(Some("")));
        check("${EMPTY}|${EMPTY:-x}", Ok(Some("|x")));
        check("${ODD}", Ok(Some("${USER}\"}")));
        check("$${USER} ${USER}", Ok(Some("${USER} joe")));
        check("${NOPE}", Err("the environment variable NOPE is not set; set it, or give a default: ${NOPE:-…}"));
        check("${USER", Err("a ${ has no closing }; write $${ for a literal ${"));
        check("${}", Err("${} does not name an environment variable; write $${ for a literal ${"));
        check("${a b}", Err("${a b} does not name an environment variable; write $${ for a literal ${"));
    }

    #[test]
    fn every_text_value_of_a_document_expands() {
        let text = "a = '${USER}'\n# ${NOPE}\n[b]\n\"${c}\" = [{ d = '${USER}', e = 3 }]\n";
        let mut document = DeTable::parse(text).unwrap();
        expand_document(document.get_mut(), &variable).unwrap();
        let value: toml::Table = serde::Deserialize::deserialize(toml::de::Deserializer::from(document)).unwrap();
        assert_eq!(value["a"].as_str(), Some("joe"));
        assert_eq!(value["b"]["${c}"][0]["d"].as_str(), Some("joe"));

        let mut document = DeTable::parse("a = 1\nb = ['${NOPE}']").unwrap();
        let error = expand_document(document.get_mut(), &variable).unwrap_err();
        assert_eq!(error.span, 11..20);
    }

    proptest::proptest! {
        #[test]
        fn text_without_a_brace_is_left_alone(text in "[^{]*") {
            proptest::prop_assert_eq!(expand(&text, &variable), Ok(None));
        }
    }
}
