//! The `nv` command: what an operator touches.
//!
//! [`main`] is the whole command, from its arguments to its exit code; the binary only calls it. It reads a config file (or
//! makes one of its arguments), loads plugins, hands sources, stages, batch processors and sinks to `nv-runtime`, and waits.
//!
//! Data goes to standard output, everything else to standard error. The exit code is one of [`Exit`].
//!
//! ```
//! use std::process::ExitCode;
//!
//! // `nv run yard.mp4 --model m.onnx` in a program of one's own. This one is told nothing to run, which is a usage error.
//! let code = nv_host::main(["nv", "run"]);
//! assert_eq!(code, ExitCode::from(nv_host::Exit::Usage.code()));
//! ```

mod assembly;
mod cli;
mod config;
mod console;
mod devices;
mod draw;
mod exit;
mod health;
mod inspect;
mod plugins;
mod progress;
mod replay;
mod run;
mod signal;
mod sink;
mod summary;
mod validate;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser as _;

use cli::{Cli, Command};
use config::{Overrides, Plan};
use console::Console;
use plugins::Plugins;

pub use exit::Exit;

/// Runs the command with these arguments, the first of which is the program's name. Returns when all is done; a second Ctrl-C
/// ends the process.
pub fn main<A: Into<OsString> + Clone>(args: impl IntoIterator<Item = A>) -> ExitCode {
    let console = Console::new();
    let exit = match Cli::try_parse_from(args) {
        Ok(cli) => {
            console.start_log();
            execute(&cli.command, &console).unwrap_or_else(|failure| {
                failure.messages.iter().for_each(|message| console.error(message));
                failure.exit
            })
        }
        Err(error) if error.use_stderr() => {
            let text = error.render().to_string();
            console.error(text.trim_start_matches("error: ").trim_end());
            Exit::Usage
        }
        // --help and --version.
        Err(text) => console::print(&text.render().to_string()).map_or(Exit::Runtime, |()| Exit::Done),
    };
    ExitCode::from(exit.code())
}

fn execute(command: &Command, console: &Console) -> exit::Result<Exit> {
    match command {
        Command::Run(args) => {
            let plan = args.plan()?;
            run::run(&plan, &mut Plugins::new(args.plugins.folder.as_deref()), console)
        }
        Command::Validate(args) => {
            let plan = Plan::from_file(&args.config, &Overrides::default())?;
            let name = args.config.display().to_string();
            validate::validate(&plan, &name, &mut Plugins::new(args.plugins.folder.as_deref()), console)
        }
        Command::Plugin(command) => inspect::plugin(command, console),
        Command::Model(command) => inspect::model(command),
        Command::Devices { json } => devices::devices(*json),
        Command::Replay { file, json } => replay::replay(file, *json, console),
    }
}
