//! The README's own test command: what a newcomer is told to run is what CI runs.

use anyhow::{Context, Result, bail};

use crate::cargo;

/// The one `cargo xtask test …` line in the README's shell blocks, without its comment.
pub(crate) fn test_command() -> Result<Vec<String>> {
    let path = cargo::root().join("README.md");
    let text = std::fs::read_to_string(&path).context("reading README.md")?;
    find(&text)
}

fn find(readme: &str) -> Result<Vec<String>> {
    let mut shell = false;
    let mut found: Option<&str> = None;
    for line in readme.lines() {
        if let Some(language) = line.strip_prefix("```") {
            shell = language == "sh";
        } else if shell && line.starts_with("cargo xtask test") {
            let command = line.split('#').next().unwrap_or_default().trim();
            if found.is_some_and(|other| other != command) {
                bail!("README.md has two test commands: `{}` and `{command}`", found.unwrap_or_default());
            }
            found = Some(command);
        }
    }
    let command = found.context("README.md has no line `cargo xtask test` in a block of ```sh")?;
    Ok(command.split_whitespace().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_taken_from_a_shell_block_without_its_comment() {
        let text = "cargo xtask test --prose\n```rust\ncargo xtask test --rust\n```\n```sh\ncargo xtask test  # all\n```";
        assert_eq!(find(text).unwrap(), ["cargo", "xtask", "test"]);
    }

    #[test]
    fn a_readme_without_it_or_with_two_is_refused() {
        assert!(find("```sh\ncargo test\n```").is_err());
        assert!(find("```sh\ncargo xtask test\ncargo xtask test -p x\n```").is_err());
    }
}
