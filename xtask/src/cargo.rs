//! Running cargo from within cargo.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// The workspace's root.
pub(crate) fn root() -> PathBuf {
    let manifest =
        env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    manifest.parent().map(Path::to_path_buf).unwrap_or(manifest)
}

/// `cargo` with these arguments, in the workspace's root.
pub(crate) fn cargo<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments);
    prepare(&mut command);
    command
}

/// Starts the command in the root, and as a person would: `cargo run` has put the description of the xtask package into
/// our environment, and build scripts that watch those variables (ring's does) would run again on every change of hands.
pub(crate) fn prepare(command: &mut Command) {
    command.current_dir(root());
    for (name, _) in env::vars_os() {
        let Some(text) = name.to_str() else { continue };
        let described = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"];
        if described.iter().any(|prefix| text.starts_with(prefix)) || text == "OUT_DIR" {
            command.env_remove(&name);
        }
    }
}

/// The command as one would type it.
pub(crate) fn show(command: &Command) -> String {
    let words = command.get_args().map(|word| word.to_string_lossy());
    let program = Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy();
    std::iter::once(program).chain(words).collect::<Vec<_>>().join(" ")
}

/// Runs the command to its end.
pub(crate) fn status(command: &mut Command) -> Result<ExitStatus> {
    command.status().with_context(|| format!("starting `{}`", show(command)))
}

/// Runs the command and fails when it fails.
pub(crate) fn must(command: &mut Command) -> Result<()> {
    let status = status(command)?;
    if !status.success() {
        bail!("`{}` failed: {status}", show(command));
    }
    Ok(())
}

/// The exit code that passes a status on. A signal's is 128 and its number, as in a shell.
pub(crate) fn pass_on(status: ExitStatus) -> ExitCode {
    #[cfg(unix)]
    let by_signal = std::os::unix::process::ExitStatusExt::signal(&status);
    #[cfg(not(unix))]
    let by_signal: Option<i32> = None;
    let code = status.code().or(by_signal.map(|signal| 128 + signal)).unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

/// Whether `cargo nextest` is there.
pub(crate) fn has_nextest() -> bool {
    cargo(["nextest", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// The workspace's own packages, as `cargo metadata` describes them.
pub(crate) fn packages() -> Result<Vec<Value>> {
    let mut command = cargo(["metadata", "--format-version", "1", "--no-deps"]);
    let output = command.stderr(Stdio::inherit()).output().context("starting `cargo metadata`")?;
    if !output.status.success() {
        bail!("`cargo metadata` failed: {}", output.status);
    }
    let mut metadata: Value =
        serde_json::from_slice(&output.stdout).context("reading `cargo metadata`'s answer")?;
    match metadata.get_mut("packages").map(Value::take) {
        Some(Value::Array(packages)) => Ok(packages),
        _ => bail!("`cargo metadata` answered without a list of packages"),
    }
}

/// Builds a package's program, with cargo's own progress on stderr, and says where it is.
pub(crate) fn build(package: &str, flags: &[&str]) -> Result<PathBuf> {
    let mut command = cargo(["build", "--package", package, "--message-format", "json-render-diagnostics"]);
    command.args(flags).stderr(Stdio::inherit());
    let output = command.output().with_context(|| format!("starting `{}`", show(&command)))?;
    if !output.status.success() {
        bail!("`{}` failed: {}", show(&command), output.status);
    }
    executable(&String::from_utf8_lossy(&output.stdout), package)
        .with_context(|| format!("`{}` named no program", show(&command)))
}

/// The path of the package's program in the JSON lines of `cargo build`.
fn executable(messages: &str, package: &str) -> Option<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message.pointer("/target/name").and_then(Value::as_str) == Some(package))
        .find_map(|message| message.get("executable")?.as_str().map(PathBuf::from))
}

/// Becomes the program, so that signals, terminal and exit status are its own.
pub(crate) fn become_program(program: &Path, arguments: &[String]) -> Result<ExitCode> {
    let mut command = Command::new(program);
    command.args(arguments);
    #[cfg(unix)]
    {
        let error = std::os::unix::process::CommandExt::exec(&mut command);
        Err(error).with_context(|| format!("starting {}", program.display()))
    }
    #[cfg(not(unix))]
    Ok(pass_on(status(&mut command)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_programs_path_is_found_among_cargos_messages() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","target":{"name":"anyhow"},"executable":null}"#,
            "\nnot json\n",
            r#"{"reason":"compiler-artifact","target":{"name":"peerage-demo"},"executable":"target/x"}"#,
        );
        assert_eq!(executable(messages, "peerage-demo"), Some("target/x".into()));
        assert_eq!(executable(messages, "anyhow"), None);
    }

    #[test]
    fn a_command_is_shown_as_one_would_type_it() {
        let mut command = Command::new("/usr/bin/cargo");
        command.args(["fmt", "--check"]);
        assert_eq!(show(&command), "cargo fmt --check");
    }
}
