//! Child processes: each is echoed before it runs, and a failure names the command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::Result;

/// Cargo's own folder, where tools lie that should outlive a clean build; CI keeps it from run to run.
pub(crate) fn cargo_home() -> Result<PathBuf> {
    let home = |variable: &str| std::env::var_os(variable).filter(|home| !home.is_empty()).map(PathBuf::from);
    let cargo = || Some(home("HOME").or_else(|| home("USERPROFILE"))?.join(".cargo"));
    Ok(home("CARGO_HOME").or_else(cargo).ok_or("neither CARGO_HOME nor HOME is set")?)
}

/// The cargo that runs us, else the one on the path.
pub(crate) fn cargo() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Runs a command with our own input and output, and fails unless it succeeds.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    eprintln!("$ {}", line(command));
    let status = command.status().map_err(|error| cannot_start(command, &error))?;
    if status.success() { Ok(()) } else { Err(format!("`{}` ended with {status}", line(command)).into()) }
}

/// Runs a command quietly and returns what it printed; its standard error goes through.
pub(crate) fn output(command: &mut Command) -> Result<Vec<u8>> {
    let output = command.stderr(Stdio::inherit()).output().map_err(|error| cannot_start(command, &error))?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(format!("`{}` ended with {}", line(command), output.status).into())
    }
}

/// Whether a command can be run and succeeds; all that it prints is dropped.
pub(crate) fn works(program: &str, args: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// The command as a person would type it: the program's name without its folder, arguments with blanks in quotes.
pub(crate) fn line(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program());
    let mut line = program.file_name().unwrap_or(command.get_program()).to_string_lossy().into_owned();
    for arg in command.get_args() {
        let arg = arg.to_string_lossy();
        let quote = if arg.is_empty() || arg.contains([' ', '*', '$', '\'']) { "\"" } else { "" };
        line.push_str(&format!(" {quote}{arg}{quote}"));
    }
    line
}

fn cannot_start(command: &Command, error: &std::io::Error) -> String {
    format!("cannot start `{}`: {error}", line(command))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_reads_as_typed() {
        let mut command = Command::new("/opt/bin/cargo");
        command.args(["install", "--root", "my tools", ""]);
        assert_eq!(line(&command), "cargo install --root \"my tools\" \"\"");
    }

    #[test]
    fn a_failure_names_the_command() {
        let error = run(&mut Command::new("no-such-program-anywhere")).expect_err("it does not exist");
        assert!(error.to_string().starts_with("cannot start `no-such-program-anywhere`"), "{error}");
        assert!(!works("no-such-program-anywhere", &[]));
    }
}
