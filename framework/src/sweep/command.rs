//! The command line of a run.

use std::ffi::OsString;
use std::path::PathBuf;

use super::SweepError;
use super::plan::PlannedRun;
use crate::recipe::Sources;
use crate::shell;

/// This program, which does the runs, too.
pub(super) fn program() -> Result<PathBuf, SweepError> {
    std::env::current_exe().map_err(SweepError::Program)
}

/// The arguments of a command on a recipe with its overrides.
pub(super) fn arguments(command: &str, sources: &Sources) -> Vec<OsString> {
    let sets = sources.sets.iter().flat_map(|set| ["--set".into(), set.into()]);
    [command.into(), sources.recipe.clone().into_os_string()].into_iter().chain(sets).collect()
}

impl PlannedRun {
    /// The arguments of the program: `run RECIPE --set .. --out DIR --resume`.
    pub(super) fn arguments(&self) -> Vec<OsString> {
        let out = ["--out".into(), self.directory.clone().into_os_string(), "--resume".into()];
        arguments("run", &self.sources).into_iter().chain(out).collect()
    }

    /// The command that does this run, as one writes it in a shell; overrides from the environment are put in
    /// front.
    pub fn command(&self) -> String {
        self.command_of(&shell::program())
    }

    pub(super) fn command_of(&self, program: &str) -> String {
        let words = self.arguments().into_iter().map(|word| word.to_string_lossy().into_owned());
        shell::command(&self.sources.environment, std::iter::once(program.to_owned()).chain(words))
    }

    /// Where the output of its process goes: beside its directory, which is the run's own.
    pub fn log(&self) -> PathBuf {
        let mut name = self.directory.file_name().unwrap_or_default().to_os_string();
        name.push(".log");
        self.directory.with_file_name(name)
    }
}
