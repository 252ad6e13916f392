//! The program in a folder of its own.

use std::path::{Path, PathBuf};
use std::process::Command;

use assert_cmd::assert::{Assert, OutputAssertExt as _};
use predicates::str::contains;

/// A file of the repository: of the one this was built in, or of that at `E2E_REPOSITORY`.
pub fn file(path: &str) -> PathBuf {
    let built = concat!(env!("CARGO_MANIFEST_DIR"), "/..").into();
    std::env::var_os("E2E_REPOSITORY").map_or(built, PathBuf::from).join(path)
}

/// A file of `tests/data`.
pub fn data(name: &str) -> PathBuf {
    file("tests/data").join(name)
}

/// A file of `recipes`.
pub fn recipe(name: &str) -> PathBuf {
    file("recipes").join(name)
}

/// The program: the one with the components of this crate, or `E2E_PROGRAM`.
pub fn program() -> PathBuf {
    std::env::var_os("E2E_PROGRAM").map_or_else(|| env!("CARGO_BIN_EXE_convmae-plugin").into(), PathBuf::from)
}

/// How the program computes, which decides how near it comes to given numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arithmetic {
    /// On the CPU.
    Cpu,
    /// On a GPU, which sums in another order every time.
    Cuda,
    /// And multiplies matrices in TF32, with 10 bits behind the point.
    Tf32,
}

/// How [`program`] computes.
pub fn arithmetic() -> Arithmetic {
    let version = Command::new(program()).arg("--version").assert().code(0);
    let single = std::env::var_os("NVIDIA_TF32_OVERRIDE").is_some_and(|tf32| tf32 == "0");
    match stdout(&version).contains("cuda") {
        false => Arithmetic::Cpu,
        true if single => Arithmetic::Cuda,
        true => Arithmetic::Tf32,
    }
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
        let mut command = Command::new(program());
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
