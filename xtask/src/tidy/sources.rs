//! What no file of ours may contain.

/// The longest that a source file may be; past it there is a second noun to be found.
const MAX_LINES: usize = 600;

/// Names under which nobody finds anything.
const NAMES_OF_NOTHING: [&str; 4] = ["utils", "util", "helpers", "misc"];

/// Beginnings of paths that exist on one machine only. In pieces, so that this file passes its own check.
const MACHINE_PATHS: [&str; 5] = [
    concat!("/ho", "me/"),
    concat!("/ro", "ot/"),
    concat!("/Us", "ers/"),
    concat!("/wo", "rk/"),
    concat!("C:", "\\Users"),
];

/// Words that say that something is unfinished. Finish it, or write it down where the project keeps its plans.
const UNFINISHED: [&str; 4] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("#[ign", "ore")];

const SLEEP: &str = concat!("thread::", "sleep");

/// What is wrong with a file, each as `:line: what` (or `: what` for the whole file). `name` is its path below the
/// workspace's root, with slashes.
pub(super) fn violations(name: &str, text: &str) -> Vec<String> {
    let mut violations = Vec::new();
    if name == "Cargo.lock" {
        return violations;
    }
    let parts = name.split('/').map(|part| part.strip_suffix(".rs").unwrap_or(part));
    for part in parts.filter(|part| NAMES_OF_NOTHING.contains(part)) {
        violations.push(format!(": `{part}` says nothing about what is in it"));
    }
    for (number, line) in text.lines().enumerate() {
        if let Some(path) = MACHINE_PATHS.iter().find(|path| has_path(line, path)) {
            violations.push(format!(":{}: a path of one machine: {path}", number + 1));
        }
    }
    if !name.ends_with(".rs") {
        return violations;
    }
    let length = text.lines().count();
    if length > MAX_LINES {
        violations.push(format!(": {length} lines, more than {MAX_LINES}"));
    }
    let code = if is_test_file(name) { 0 } else { lines_before_tests(text) };
    for (number, line) in text.lines().enumerate() {
        if let Some(word) = UNFINISHED.iter().find(|word| has_word(line, word)) {
            violations.push(format!(":{}: {word}", number + 1));
        }
        if number < code && line.contains(SLEEP) {
            violations.push(format!(":{}: {SLEEP}: wait for the event instead", number + 1));
        }
    }
    violations
}

/// Whether nothing in the file is shipped: tests in files of their own, the test packages, and the comparisons, whose
/// cameras and processors sleep because that is what is measured.
fn is_test_file(name: &str) -> bool {
    name.starts_with("tests/") || name.starts_with("bench/") || name.contains("/tests/") || name.ends_with("/tests.rs")
}

/// How many lines come before the unit tests, which stand last in a file.
fn lines_before_tests(text: &str) -> usize {
    let lines: Vec<_> = text.lines().collect();
    let tests = lines.windows(2).position(|pair| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod tests {"));
    tests.unwrap_or(lines.len())
}

/// Whether `path` begins in the line, rather than being in the middle of a longer path or an address.
fn has_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        before.is_none_or(|before| !before.is_alphanumeric() && !matches!(before, '.' | '-' | '_' | '}' | '~'))
    })
}

fn has_word(line: &str, word: &str) -> bool {
    let is_part = |neighbour: Option<char>| neighbour.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(word)
        .any(|(at, _)| !is_part(line[..at].chars().next_back()) && !is_part(line[at + word.len()..].chars().next()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, text: &str, expected: &[&str]) {
        assert_eq!(violations(name, text), expected, "{name}: {text}");
    }

    #[test]
    fn long_files_have_a_second_noun() {
        check("nv-core/src/frame.rs", &"\n".repeat(MAX_LINES), &[]);
        check("nv-core/src/frame.rs", &"\n".repeat(MAX_LINES + 1), &[": 601 lines, more than 600"]);
        check("docs/long.md", &"\n".repeat(MAX_LINES + 1), &[]);
    }

    #[test]
    fn names_say_something() {
        check("nv-core/src/utils.rs", "", &[": `utils` says nothing about what is in it"]);
        check("nv-core/src/util/geometry.rs", "", &[": `util` says nothing about what is in it"]);
        check("nv-core/src/utilisation.rs", "", &[]);
    }

    #[test]
    fn no_path_of_one_machine() {
        let line = format!("see {}someone/x", MACHINE_PATHS[0]);
        check("docs/a.md", &line, &[&format!(":1: a path of one machine: {}", MACHINE_PATHS[0])]);
        let line = format!("\n\"{}x\"", MACHINE_PATHS[3]);
        check("a/b.rs", &line, &[&format!(":2: a path of one machine: {}", MACHINE_PATHS[3])]);
        check("docs/a.md", &format!("https://example.org{}x", MACHINE_PATHS[3]), &[]);
        check("docs/a.md", &format!("frame{}pool", MACHINE_PATHS[3]), &[]);
    }

    #[test]
    fn nothing_is_left_unfinished() {
        for word in UNFINISHED {
            check("a/b.rs", &format!("fn f() {{}}\n// {word}"), &[&format!(":2: {word}")]);
        }
        check("a/b.rs", concat!("// MASTO", "DONS"), &[]);
    }

    #[test]
    fn only_tests_may_sleep() {
        let sleep = format!("std::{SLEEP}(long);\n");
        check("a/b.rs", &sleep, &[&format!(":1: {SLEEP}: wait for the event instead")]);
        check("a/b.rs", &format!("\n#[cfg(test)]\nmod tests {{\n{sleep}}}"), &[]);
        check(
            "a/b.rs",
            &format!("#[cfg(test)]\nmod fake;\n{sleep}"),
            &[&format!(":3: {SLEEP}: wait for the event instead")],
        );
        check("tests/plugins/slow/src/lib.rs", &sleep, &[]);
        check("bench/runtime/src/world.rs", &sleep, &[]);
        check("a/src/b/tests.rs", &sleep, &[]);
    }
}
