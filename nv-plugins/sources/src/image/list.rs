use std::cmp::Ordering;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The pictures in `folder`, by name in natural order; other files, hidden ones and folders are passed over.
pub(crate) fn in_folder(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && is_picture(&path) && path.is_file() {
            paths.push(path);
        }
    }
    paths.sort_by(|a, b| natural_order(a, b));
    Ok(paths)
}

/// The pictures that match a pattern (`*`, `?`, `[…]`, `**`), by path in natural order; other files are passed over.
///
/// # Errors
/// A malformed pattern, as text.
pub(crate) fn matching(pattern: &str) -> Result<Vec<PathBuf>, String> {
    let options = glob::MatchOptions { require_literal_leading_dot: true, ..glob::MatchOptions::new() };
    let matches = glob::glob_with(pattern, options).map_err(|e| format!("the pattern is malformed: {e}"))?;
    // What can't be looked into holds nothing that we could read.
    let mut paths: Vec<PathBuf> = matches.flatten().filter(|path| is_picture(path) && path.is_file()).collect();
    paths.sort_by(|a, b| natural_order(a, b));
    Ok(paths)
}

fn is_picture(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
    matches!(extension.as_deref(), Some("jpg" | "jpeg" | "png"))
}

/// Numbers count as numbers: `frame9.png` comes before `frame10.png`.
fn natural_order(a: &Path, b: &Path) -> Ordering {
    let (a, b) = (a.as_os_str().as_encoded_bytes(), b.as_os_str().as_encoded_bytes());
    let (mut rest_a, mut rest_b) = (a, b);
    loop {
        let (digits_a, digits_b) = (leading_digits(rest_a), leading_digits(rest_b));
        let order = if digits_a > 0 && digits_b > 0 {
            let (number_a, number_b) = (significant(&rest_a[..digits_a]), significant(&rest_b[..digits_b]));
            (rest_a, rest_b) = (&rest_a[digits_a..], &rest_b[digits_b..]);
            number_a.len().cmp(&number_b.len()).then_with(|| number_a.cmp(number_b))
        } else {
            match (rest_a.split_first(), rest_b.split_first()) {
                (Some((x, after_a)), Some((y, after_b))) => {
                    (rest_a, rest_b) = (after_a, after_b);
                    x.cmp(y)
                }
                // Names that only differ in leading zeros still have an order.
                (x, y) => return x.is_some().cmp(&y.is_some()).then_with(|| a.cmp(b)),
            }
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

fn leading_digits(text: &[u8]) -> usize {
    text.iter().take_while(|byte| byte.is_ascii_digit()).count()
}

fn significant(digits: &[u8]) -> &[u8] {
    let zeros = digits.iter().take_while(|&&digit| digit == b'0').count();
    &digits[zeros..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_are_in_order() {
        let sorted =
            ["a", "a1", "a01", "a2", "a10", "a10b2", "a10b11", "a99999999999999999999", "a100000000000000000000", "b"];
        let mut shuffled = sorted;
        shuffled.reverse();
        shuffled.sort_by(|a, b| natural_order(Path::new(a), Path::new(b)));
        // "a1" and "a01" are the same number: then it goes by the bytes.
        let expected: Vec<_> = ["a", "a01", "a1"].into_iter().chain(sorted[3..].iter().copied()).collect();
        assert_eq!(shuffled.to_vec(), expected);
    }

    proptest! {
        #[test]
        fn it_is_a_total_order(names in prop::collection::vec("[a01./]{0,5}", 3)) {
            let order = |a: &str, b: &str| natural_order(Path::new(a), Path::new(b));
            let [a, b, c] = [&names[0], &names[1], &names[2]];
            prop_assert_eq!(order(a, b), order(b, a).reverse());
            prop_assert_eq!(order(a, b) == Ordering::Equal, a == b);
            if order(a, b).is_le() && order(b, c).is_le() {
                prop_assert!(order(a, c).is_le());
            }
        }
    }

    #[test]
    fn only_pictures_are_listed() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["f10.png", "f9.JPG", "f1.jpeg", ".f2.png", "notes.txt", "clip.mp4", "noextension"] {
            fs::write(folder.path().join(name), b"").unwrap();
        }
        fs::create_dir(folder.path().join("folder.png")).unwrap();
        let names = |paths: Vec<PathBuf>| -> Vec<String> {
            paths.iter().map(|p| p.file_name().unwrap().to_str().unwrap().to_owned()).collect()
        };
        assert_eq!(names(in_folder(folder.path()).unwrap()), ["f1.jpeg", "f9.JPG", "f10.png"]);
        assert_eq!(
            names(matching(folder.path().join("f*").to_str().unwrap()).unwrap()),
            ["f1.jpeg", "f9.JPG", "f10.png"]
        );
        assert_eq!(names(matching(folder.path().join("f?0.*").to_str().unwrap()).unwrap()), ["f10.png"]);
        assert!(matching("a***").unwrap_err().starts_with("the pattern is malformed"));
    }
}
