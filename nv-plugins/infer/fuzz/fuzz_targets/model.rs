//! Any bytes, through all that reads a model: see `tests/hostile` of nv-infer, which takes the same way with files made by hand.

#![no_main]

#[path = "../../tests/hostile/mutate.rs"]
mod mutate;
#[path = "../../tests/hostile/walk.rs"]
mod walk;

use std::panic;

use fastrand::Rng;
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

fuzz_target!(
    init: let_rten_panic(),
    |bytes: &[u8]| {
        walk::check_text(&walk::walk(bytes));
    }
);

/// libFuzzer's hook ends the process at every panic, also at those that somebody catches. rten asserts what it takes for
/// granted of a model, and sessions catch that: it is no failure.
fn let_rten_panic() {
    let abort = panic::take_hook();
    panic::set_hook(Box::new(move |panicked| {
        let of_rten = panicked.location().is_some_and(|location| location.file().contains("/rten-"));
        if !of_rten {
            abort(panicked);
        }
    }));
}

// libFuzzer knows bytes and the dictionary's words; most of what it makes of a message is none. So three of four are made by
// changing what the message says.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut rng = Rng::with_seed(seed.into());
    if rng.u8(..4) == 0 {
        return fuzzer_mutate(data, size, max_size);
    }
    let made = mutate::mutated(&data[..size], &mut rng, max_size.min(data.len()));
    data[..made.len()].copy_from_slice(&made);
    made.len()
});
