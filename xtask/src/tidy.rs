//! What is cheap to check and easy to forget.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Folders that hold nothing of ours.
const SKIPPED: &[&str] = &["target", ".git"];

/// Endings of the files that people read.
const TEXTS: &[&str] = &["rs", "toml", "md", "proto", "sh", "yml", "yaml", "json"];

/// Checks that every package takes the workspace's lints, and that no file names a place on somebody's machine. Returns
/// how many files were read.
pub(crate) fn check(root: &Path, packages: &[Value]) -> Result<usize> {
    let mut wrong = Vec::new();
    for package in packages {
        let manifest =
            package.get("manifest_path").and_then(Value::as_str).context("a package without a manifest")?;
        let text = fs::read_to_string(manifest).with_context(|| format!("reading {manifest}"))?;
        if !takes_the_lints(&text) {
            let name = package.get("name").and_then(Value::as_str).unwrap_or(manifest);
            wrong.push(format!("`{name}` lacks [lints] workspace = true"));
        }
    }
    let homes = homes(root);
    let mut files = 0;
    walk(root, &mut |path, text| {
        files += 1;
        for (number, line) in text.lines().enumerate() {
            if let Some(home) = homes.iter().find(|home| line.contains(home.as_str())) {
                let path = path.strip_prefix(root).unwrap_or(path).display();
                wrong.push(format!("{path}:{}: `{home}` is a place on one machine", number + 1));
            }
        }
    })?;
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n       "));
    }
    Ok(files)
}

fn takes_the_lints(manifest: &str) -> bool {
    let mut lines = manifest.lines().map(str::trim).skip_while(|line| *line != "[lints]").skip(1);
    lines.by_ref().take_while(|line| !line.starts_with('[')).any(|line| line == "workspace = true")
        || manifest.lines().any(|line| line.trim() == "lints.workspace = true")
}

/// How paths on somebody's machine begin. In pieces, or this file would be the first to fail.
fn homes(root: &Path) -> Vec<String> {
    let mut homes: Vec<String> = ["home", "root", "Users"].iter().map(|name| format!("/{name}/")).collect();
    // A checkout in a folder of the top, like a container's, has too plain a name to look for.
    if root.components().count() > 2 {
        homes.push(root.display().to_string());
    }
    homes
}

fn walk(folder: &Path, visit: &mut impl FnMut(&Path, &str)) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        let name = entry.file_name();
        if kind.is_dir() {
            if !SKIPPED.iter().any(|skipped| name == *skipped) {
                walk(&path, visit)?;
            }
        } else if kind.is_file()
            && path.extension().is_some_and(|ending| TEXTS.iter().any(|text| ending == *text))
        {
            let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
            visit(&path, &text);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn house(name: &str, files: &[(&str, &str)]) -> (std::path::PathBuf, Result<usize>) {
        let root = std::env::temp_dir().join(format!("xtask-tidy-{name}-{}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        for (file, text) in files {
            fs::write(root.join(file), text).unwrap();
        }
        let manifest = root.join("Cargo.toml");
        let result = check(&root, &[json!({ "name": "a", "manifest_path": manifest })]);
        fs::remove_dir_all(&root).unwrap();
        (root, result)
    }

    const GOOD: (&str, &str) = ("Cargo.toml", "[package]\nname = \"a\"\n\n[lints]\nworkspace = true\n");

    #[test]
    fn a_tidy_house_passes() {
        assert_eq!(house("good", &[GOOD, ("a.md", "see ~/.peerage")]).1.unwrap(), 2);
    }

    #[test]
    fn a_package_without_the_lints_is_caught() {
        let error =
            house("lints", &[("Cargo.toml", "[lints]\n[dependencies]\nworkspace = true")]).1.unwrap_err();
        assert!(error.to_string().contains("`a` lacks [lints]"), "{error}");
    }

    #[test]
    fn a_path_of_one_machine_is_caught_with_its_line() {
        let line = format!("one\nsee /{}/me/key.pem", "home");
        let error = house("home", &[GOOD, ("a.md", &line)]).1.unwrap_err().to_string();
        assert!(error.contains("a.md:2:"), "{error}");
    }
}
