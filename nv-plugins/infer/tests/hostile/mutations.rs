//! Thousands of files made at random, the same ones every time: what the fuzzer does without end, for a few seconds.

use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::limits::measured;
use crate::mutate::mutated;
use crate::seeds::seeds;
use crate::walk::walk;

/// How many files are made; more in a deep run.
const FILES: usize = 6000;
const DEEP_FILES: usize = 200_000;
/// How large a file may be that grows from one to the next.
const MAX_FILE: usize = 1 << 16;

#[test]
fn the_seeds_are_models() {
    for (name, file) in seeds() {
        let text = walk(&file).unwrap_or_else(|refusal| panic!("{name}: {}", refusal.0));
        assert!(!text.contains("lacking"), "{name}: {text}");
    }
}

/// No panic, no file that takes more than a moment or more than a few megabytes.
#[test]
fn mutations_end_in_an_error_or_an_analysis() {
    let files = if std::env::var_os("NV_TEST_DEEP").is_some() { DEEP_FILES } else { FILES };
    let seeds = seeds();
    let mut rng = Rng::with_seed(4);
    let (mut models, mut refused, mut slowest) = (0, 0, Duration::ZERO);
    let (mut file, mut name) = (Vec::new(), "");
    for i in 0..files {
        // Mutations of mutations, a dozen deep.
        if i % 12 == 0 {
            let (of, seed) = &seeds[rng.usize(..seeds.len())];
            (name, file) = (of, seed.clone());
        }
        file = mutated(&file, &mut rng, MAX_FILE);
        let began = Instant::now();
        let (result, taken) = measured(|| std::panic::catch_unwind(|| walk(&file)));
        slowest = slowest.max(began.elapsed());
        match result {
            Ok(Ok(_)) => models += 1,
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
