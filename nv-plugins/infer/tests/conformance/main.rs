//! That sessions compute what ONNX says, on every engine that is here: one table of what others computed for each operator,
//! one for whole models, and properties of what we computed ourselves.

mod batches;
mod data;
mod engines;
mod models;
mod nodes;
mod random;

#[expect(clippy::print_stdout, reason = "a test says what it ran and what it skipped")]
fn announce(text: &str) {
    println!("{text}");
}
