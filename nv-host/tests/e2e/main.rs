//! The built `nv` command, run as an operator runs it: real plugins, small videos and models that the tests make.

mod bad_input;
mod cascade;
mod config;
mod decisions;
#[cfg(target_os = "linux")]
mod devices;
mod ending;
mod inspect;
mod outputs;
mod second_look;
mod steps;
mod world;
