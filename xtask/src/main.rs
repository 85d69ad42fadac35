//! `cargo xtask`: the project's chores. Thin on purpose, so that it builds in seconds; what is large (the demo, the
//! code generator) is a package of its own that this one builds and runs.

mod arrows;
mod bench;
mod cargo;
mod ci;
mod codegen;
mod demo;
mod fuzz;
mod metrics;
mod readme;
mod sim;
mod stages;
mod test;
mod tidy;

use std::process::ExitCode;

use anyhow::{Result, bail};

const HELP: &str = "\
The project's chores.

usage: cargo xtask COMMAND [ARGUMENTS]

  demo     start a network of real processes on this machine and watch it work
  bench    what links cost, beside what the machine itself allows
  sim      thousands of peers in virtual time: broadcasts, crashes; with figures
  test     all tests: doctests, then nextest where it is installed, else cargo test
  ci       everything that must hold before a change goes in
  codegen  write the protobuf code anew from proto/; with --check, compare only
  help     this page

`cargo xtask COMMAND --help` says more.";

const COMMANDS: [&str; 7] = ["demo", "bench", "sim", "test", "ci", "codegen", "help"];

fn main() -> ExitCode {
    match run(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<ExitCode> {
    let Some((command, rest)) = arguments.split_first() else {
        println!("{HELP}");
        return Ok(ExitCode::SUCCESS);
    };
    match command.as_str() {
        "demo" => demo::run(rest),
        "bench" => bench::run(rest),
        "sim" => sim::run(rest),
        "test" => test::run(rest),
        "ci" => ci::run(rest),
        "codegen" => codegen::run(rest),
        "help" | "--help" | "-h" => {
            println!("{HELP}");
            Ok(ExitCode::SUCCESS)
        }
        unknown => bail!("unknown command `{unknown}`; the commands are {}", COMMANDS.join(", ")),
    }
}

/// Whether the arguments ask for help.
fn wants_help(arguments: &[String]) -> bool {
    arguments.iter().take_while(|word| *word != "--").any(|word| word == "--help" || word == "-h")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_command_is_named_with_the_valid_ones() {
        let error = run(&["dmeo".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("`dmeo`"), "{error}");
        for command in COMMANDS {
            assert!(error.contains(command), "{error}");
        }
    }

    #[test]
    fn help_after_a_double_dash_is_not_ours() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert!(wants_help(&words("-p xtask --help")));
        assert!(!wants_help(&words("-p xtask -- --help")));
    }
}
