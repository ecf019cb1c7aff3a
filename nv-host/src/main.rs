//! The `nv` command. Everything that it does is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    nv_host::main(std::env::args_os())
}
