//! Model files that mean harm: whatever is in a file, reading it ends in an error or an analysis, soon and in little memory.
//!
//! - `graphs`, `operators`, `tensors`, `floods`: files made by hand, a line or a few each, with what must be said of them;
//! - `mutations`: thousands of files made at random from small models, the same ones every time;
//! - `devices`: the same on the software GPU, which gives what the CPU gives;
//! - `regressions`: what fuzzing has found.

mod devices;
mod floods;
mod graphs;
mod limits;
mod mutate;
mod mutations;
mod operators;
mod regressions;
mod seeds;
mod table;
mod tensors;
mod walk;

#[global_allocator]
static ALLOCATOR: limits::PeakAllocator = limits::PeakAllocator;
