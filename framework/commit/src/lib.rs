//! The git commit of a folder, read without calling git: for programs, and for the build scripts of packages with components.
//!
//! A package that is to name its commit in the runs that it takes part in has this crate among its `[build-dependencies]`, and a `build.rs`
//! whose `main` is `convmae_commit::emit()`.

use std::fs;
use std::path::{Path, PathBuf};

/// What cargo writes into a package that it uploads or installs.
const VCS_INFO: &str = ".cargo_vcs_info.json";

/// Lets the package whose build script calls it know the commit that is checked out where it lies, as the variable `PACKAGE_COMMIT` of
/// its compiler. `cargo run` gives it to the program, too, where a name with `CONVMAE_` would set a key of the recipe. Built outside git
/// there is none. When another commit is checked out or made, only this
/// package and those that depend on it are built again.
pub fn emit() {
    println!("cargo::rerun-if-changed=build.rs");
    let Some(folder) = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from) else { return };
    for file in watched(&folder) {
        println!("cargo::rerun-if-changed={}", file.display());
    }
    if let Some(commit) = packaged(&folder).or_else(|| checked_out(&folder)) {
        println!("cargo::rustc-env=PACKAGE_COMMIT={commit}");
    }
}

/// The commit that `HEAD` of the repository around a folder points to.
pub fn checked_out(folder: &Path) -> Option<String> {
    Repository::around(folder)?.commit()
}

/// The commit that a package was made of.
fn packaged(folder: &Path) -> Option<String> {
    let info = fs::read_to_string(folder.join(VCS_INFO)).ok()?;
    let (_, rest) = info.split_once("\"sha1\"")?;
    as_commit(rest.split('"').nth(1)?)
}

/// The files that change with the commit, of those that there are: cargo takes one that is missing for one that has changed.
fn watched(folder: &Path) -> Vec<PathBuf> {
    let mut files = vec![folder.join(VCS_INFO)];
    if let Some(Repository { git, common }) = Repository::around(folder) {
        files.extend([git.join("HEAD"), git.join("logs/HEAD"), common.join("packed-refs")]);
        files.extend(Repository { git, common }.branch().map(|(file, _)| file));
    }
    files.retain(|file| file.exists());
    files
}

/// Where git keeps what.
struct Repository {
    /// What belongs to one worktree.
    git: PathBuf,
    /// What all worktrees share, branches among them.
    common: PathBuf,
}

impl Repository {
    fn around(folder: &Path) -> Option<Self> {
        let git = folder.ancestors().map(|ancestor| ancestor.join(".git")).find(|git| git.exists())?;
        // In a worktree or submodule, `.git` is a file that names the directory.
        let git = match fs::read_to_string(&git) {
            Ok(pointer) => git.parent()?.join(pointer.strip_prefix("gitdir:")?.trim()),
            Err(_) => git,
        };
        let common = match fs::read_to_string(git.join("commondir")) {
            Ok(common) => git.join(common.trim()),
            Err(_) => git.clone(),
        };
        Some(Self { git, common })
    }

    fn head(&self) -> Option<String> {
        fs::read_to_string(self.git.join("HEAD")).ok()
    }

    /// The branch that is checked out: its file, and its name.
    fn branch(&self) -> Option<(PathBuf, String)> {
        let name = self.head()?.trim().strip_prefix("ref: ")?.to_owned();
        Some((self.common.join(&name), name))
    }

    fn commit(&self) -> Option<String> {
        let Some((file, name)) = self.branch() else { return as_commit(&self.head()?) };
        match fs::read_to_string(file) {
            Ok(commit) => as_commit(&commit),
            Err(_) => fs::read_to_string(self.common.join("packed-refs"))
                .ok()?
                .lines()
                .find_map(|line| as_commit(line.strip_suffix(&name)?.strip_suffix(' ')?)),
        }
    }
}

fn as_commit(text: &str) -> Option<String> {
    let text = text.trim();
    (matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    /// Paths with their contents.
    type Files<'a> = &'a [(&'a str, &'a str)];

    fn repository(files: Files<'_>) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        directory
    }

    #[test]
    fn the_commit_is_found_wherever_git_keeps_it() {
        let packed = format!("# pack-refs\n{COMMIT} refs/heads/main\n");
        let cases: [(Files<'_>, &[&str]); 4] = [
            (&[(".git/HEAD", COMMIT)], &[".git/HEAD"]),
            (
                &[(".git/HEAD", "ref: refs/heads/main\n"), (".git/refs/heads/main", COMMIT)],
                &[".git/HEAD", ".git/refs/heads/main"],
            ),
            (
                &[
                    (".git/HEAD", "ref: refs/heads/main\n"),
                    (".git/packed-refs", &packed),
                    (".git/logs/HEAD", "."),
                ],
                &[".git/HEAD", ".git/logs/HEAD", ".git/packed-refs"],
            ),
            (
                &[
                    (".git", "gitdir: main/.git/worktrees/w\n"),
                    ("main/.git/worktrees/w/HEAD", "ref: refs/heads/main"),
                    ("main/.git/worktrees/w/commondir", "../.."),
                    ("main/.git/refs/heads/main", COMMIT),
                ],
                &["main/.git/worktrees/w/HEAD", "main/.git/worktrees/w/../../refs/heads/main"],
            ),
        ];
        for (files, expected) in cases {
            let directory = repository(files);
            let below = directory.path().join("a/b");
            fs::create_dir_all(&below).unwrap();
            assert_eq!(checked_out(&below).as_deref(), Some(COMMIT), "{files:?}");
            let expected: Vec<_> = expected.iter().map(|file| directory.path().join(file)).collect();
            assert_eq!(watched(&below), expected);
        }
    }

    #[test]
    fn a_broken_repository_has_no_commit() {
        for head in ["", "ref: refs/heads/gone", "zzz"] {
            assert_eq!(checked_out(repository(&[(".git/HEAD", head)]).path()), None);
        }
    }

    #[test]
    fn a_package_says_what_it_was_made_of() {
        let info = format!(
            "{{\n  \"git\": {{\n    \"sha1\": \"{COMMIT}\"\n  }},\n  \"path_in_vcs\": \"registry\"\n}}"
        );
        let package = repository(&[(VCS_INFO, &info)]);
        assert_eq!(packaged(package.path()).as_deref(), Some(COMMIT));
        assert_eq!(watched(package.path()), [package.path().join(VCS_INFO)]);
        assert_eq!(packaged(repository(&[(VCS_INFO, "{}")]).path()), None);
    }
}
