//! The program in a folder of its own.

use std::path::{Path, PathBuf};
use std::process::Command;

use assert_cmd::assert::{Assert, OutputAssertExt as _};
use predicates::str::contains;

/// A file of `tests/data`.
pub fn data(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/data")).join(name)
}

/// A temporary folder with `tiny.yaml` in it, where the program is run.
pub struct Folder(tempfile::TempDir);

impl Folder {
    pub fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        std::fs::copy(data("tiny.yaml"), folder.path("tiny.yaml")).unwrap();
        folder
    }

    pub fn root(&self) -> &Path {
        self.0.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a recipe that is `tiny.yaml` with one text replaced.
    pub fn recipe_with(&self, from: &str, to: &str) {
        let tiny = std::fs::read_to_string(data("tiny.yaml")).unwrap();
        assert!(tiny.contains(from), "{from}");
        std::fs::write(self.path("recipe.yaml"), tiny.replacen(from, to, 1)).unwrap();
    }

    /// Line and column of a text in `recipe.yaml`, as messages name them; of the part behind a `|` in it.
    pub fn place(&self, text: &str) -> String {
        let recipe = std::fs::read_to_string(self.path("recipe.yaml")).unwrap();
        let start = recipe.find(&text.replace('|', "")).unwrap_or_else(|| panic!("{text}"));
        let before = &recipe[..start + text.find('|').unwrap_or(0)];
        let line = before.rsplit('\n').next().unwrap();
        format!("recipe.yaml:{}:{}", before.matches('\n').count() + 1, line.len() + 1)
    }

    /// The program with the components of this crate, one thread, no variables of ours.
    pub fn convmae<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_convmae-plugin"));
        command.args(args).current_dir(self.root()).env("RAYON_NUM_THREADS", "1");
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("CONVMAE_") {
                command.env_remove(name);
            }
        }
        command
    }

    /// Runs the program to a good end.
    pub fn succeeds<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Assert {
        self.convmae(args).assert().code(0)
    }

    /// Runs the program, which has to refuse with an exit code and in these words.
    pub fn fails<'a>(&self, args: impl IntoIterator<Item = &'a str>, code: i32, words: &[&str]) {
        let mut assert = self.convmae(args).assert().code(code);
        for words in words {
            assert = assert.stderr(contains(*words));
        }
    }
}

/// What the program printed.
pub fn stdout(assert: &Assert) -> String {
    String::from_utf8(assert.get_output().stdout.clone()).unwrap()
}

/// What the program reported.
pub fn stderr(assert: &Assert) -> String {
    String::from_utf8(assert.get_output().stderr.clone()).unwrap()
}
