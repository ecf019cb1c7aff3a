//! What the comparisons share.
//!
//! - [`Machine`], [`commit`], [`CpuTime`]: what was measured on, what was measured, and how busy the machine is.
//! - [`statistics`]: the few figures that the tables rest on.
//! - [`Relation`], [`table`]: limits, and tables for people.
//! - [`save`], [`now`]: the record.

mod limit;
mod machine;
mod record;
pub mod statistics;
pub mod table;

pub use limit::{Relation, pass_text};
pub use machine::{CpuTime, IDLE, Machine, commit};
pub use record::{now, save};
