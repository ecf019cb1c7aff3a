//! Thousands of files made at random, the same ones every time: what the fuzzer does without end, for a few seconds.

use std::path::Path;
use std::time::Duration;
use std::{fs, io};

use fastrand::Rng;

use crate::limits::measured;
use crate::mutate::{ATTRIBUTES, OPERATORS, WORDS, mutated};
use crate::seeds::seeds;
use crate::walk::{check_text, walk};

/// How many files are made; more in a deep run.
const FILES: usize = 6000;
const DEEP_FILES: usize = 200_000;
/// How large a file may be that grows from one to the next.
const MAX_FILE: usize = 1 << 16;

/// Where the fuzzer's corpus and dictionary are to be written, if they are.
const SEEDS_TO: &str = "NV_FUZZ_SEEDS";

#[test]
fn the_seeds_are_models() {
    for (name, file) in seeds() {
        let text = walk(&file).unwrap_or_else(|refusal| panic!("{name}: {}", refusal.0));
        assert!(!text.contains("lacking"), "{name}: {text}");
    }
    if let Some(folder) = std::env::var_os(SEEDS_TO) {
        write_seeds(Path::new(&folder)).unwrap();
    }
}

/// A file for each seed in `corpus`, and `dictionary` with every word that means something.
fn write_seeds(folder: &Path) -> io::Result<()> {
    let corpus = folder.join("corpus");
    fs::create_dir_all(&corpus)?;
    for (name, file) in seeds() {
        fs::write(corpus.join(name), file)?;
    }
    let words = OPERATORS.iter().chain(ATTRIBUTES).chain(WORDS).filter(|word| !word.is_empty());
    fs::write(folder.join("dictionary"), words.map(|word| format!("\"{word}\"\n")).collect::<String>())
}

/// No panic, no file that takes more than a moment or more than a few megabytes.
#[test]
fn mutations_end_in_an_error_or_an_analysis() {
    let files = if std::env::var_os("NV_TEST_DEEP").is_some() { DEEP_FILES } else { FILES };
    let seeds = seeds();
    let mut rng = Rng::with_seed(4);
    let (mut models, mut refused) = (0, 0);
    let (mut parent, mut name) = (Vec::new(), "");
    for i in 0..files {
        // Mutations of mutations, a dozen deep.
        if i % 12 == 0 {
            let (of, seed) = &seeds[rng.usize(..seeds.len())];
            (name, parent) = (of, seed.clone());
        }
        let file = mutated(&parent, &mut rng, MAX_FILE);
        let walk = || {
            let result = walk(&file);
            check_text(&result);
            result
        };
        let (result, taken) = measured(|| std::panic::catch_unwind(walk));
        match result {
            Ok(Ok(_)) => {
                models += 1;
                parent.clone_from(&file);
            }
            Ok(Err(_)) => refused += 1,
            Err(_) => panic!("mutation {i} of {name} panics: {}", hexadecimal(&file)),
        }
        assert!(taken.bytes < 64 << 20, "mutation {i} of {name} takes {} bytes: {}", taken.bytes, hexadecimal(&file));
        assert!(taken.time < Duration::from_secs(2), "mutation {i} of {name} takes {:?}", taken.time);
    }
    // Neither kind is rare, or the mutations would show nothing.
    assert!(models * 10 > files && refused * 10 > files, "{models} models, {refused} refused");
}

fn hexadecimal(file: &[u8]) -> String {
    file.iter().map(|byte| format!("{byte:02x}")).collect()
}
