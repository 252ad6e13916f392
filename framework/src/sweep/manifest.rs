//! `sweep.json`: what the runs of a sweep are, for other programs. It says nothing about what is done.

use std::fs;
use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::plan::{Plan, PlannedRun};
use super::spec::Sweep;
use crate::report::ReportError;
use crate::weights::atomic;

impl Plan {
    /// `sweep.json` in the directory of the sweep.
    pub fn manifest(&self) -> PathBuf {
        self.root.join("sweep.json")
    }

    /// The manifest: of the sweep, and of each run its stage, axes, directory (relative to that of the
    /// sweep), digest and command.
    pub fn to_json(&self, sweep: &Sweep) -> Value {
        json!({
            "name": sweep.name(),
            "description": sweep.description(),
            "sweep": sweep.path(),
            "stages": sweep.stages(),
            "runs": self.runs.iter().map(|run| self.run_to_json(run)).collect::<Vec<_>>(),
        })
    }

    fn run_to_json(&self, run: &PlannedRun) -> Value {
        json!({
            "name": run.name,
            "stage": run.stage,
            "axes": axes(run),
            "directory": run.directory.strip_prefix(&self.root).unwrap_or(&run.directory),
            "digest": run.digest,
            "identity": run.identity,
            "recipe": run.sources.recipe,
            "set": run.sources.sets,
            "upstream": run.upstream.map(|upstream| &self.runs[upstream].name),
            "parameters": run.parameters,
            "gmacs": run.gmacs,
            "command": run.command(),
        })
    }

    /// Writes the manifest, and the directory of the sweep if there is none.
    pub fn write_manifest(&self, sweep: &Sweep) -> Result<(), ReportError> {
        fs::create_dir_all(&self.root).map_err(ReportError::io("create", &self.root))?;
        Ok(atomic::write_json(&self.manifest(), &self.to_json(sweep))?)
    }

    /// A run of the manifest that is there whose place a run of another recipe has here.
    pub(super) fn contradicts_manifest(&self) -> Option<&PlannedRun> {
        let manifest: Value = serde_json::from_slice(&fs::read(self.manifest()).ok()?).ok()?;
        let known = |run: &&PlannedRun| {
            let mut others = manifest["runs"].as_array()?.iter().filter(|other| other["name"] == *run.name);
            others.next().filter(|other| other["identity"].is_string())
        };
        self.runs.iter().find(|run| known(run).is_some_and(|known| known["identity"] != *run.identity))
    }
}

/// The axes of a run; a list of values where it stands for several.
fn axes(run: &PlannedRun) -> Map<String, Value> {
    let mut axes = Map::new();
    for (key, value) in &run.axes {
        let values: Vec<&Value> =
            run.axes.iter().filter(|(other, _)| other == key).map(|(_, value)| value).collect();
        axes.insert(key.clone(), if values.len() > 1 { json!(values) } else { value.clone() });
    }
    axes
}
