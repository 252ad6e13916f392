//! Runs as jobs of a Slurm cluster: an array per stage.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::SweepError;
use super::command::program;
use super::plan::{Plan, PlannedRun};
use super::state::RunState;
use crate::report::ReportError;
use crate::shell::quote;
use crate::weights::atomic;

/// How jobs are submitted.
#[derive(Debug, Clone, Default)]
pub struct SlurmOptions {
    /// Tasks of an array that run at once; all if left out.
    pub jobs: Option<usize>,
    /// Lines of options of `sbatch`, without line breaks: `--time=2:00:00 --mem=4G`.
    pub options: Vec<String>,
    /// Whether failed runs are tried again.
    pub retry_failed: bool,
}

/// The array job of a stage.
#[derive(Debug, Clone)]
pub struct ArrayJob {
    /// The stage; empty if the sweep has one recipe.
    pub stage: String,
    /// Where the script is written.
    pub path: PathBuf,
    /// The script.
    pub script: String,
    /// Stages whose jobs must have succeeded before.
    pub after: Vec<String>,
}

impl Plan {
    /// The array jobs that do what is left of the sweep, in the order in which they are submitted.
    pub fn array_jobs(&self, sweep: &str, options: &SlurmOptions) -> Result<Vec<ArrayJob>, SweepError> {
        let program = program()?.to_string_lossy().into_owned();
        let left = self.left(options.retry_failed);
        let mut jobs: Vec<ArrayJob> = Vec::new();
        for (at, run) in self.runs.iter().enumerate().filter(|(at, _)| left[*at]) {
            if jobs.iter().any(|job| job.stage == run.stage) {
                continue;
            }
            let of_stage = self.runs.iter().enumerate().skip(at);
            let of_stage = of_stage.filter(|(at, other)| left[*at] && other.stage == run.stage);
            let runs: Vec<&PlannedRun> = of_stage.map(|(_, run)| run).collect();
            let upstream = runs.iter().filter_map(|run| run.upstream).filter(|upstream| left[*upstream]);
            let mut after: Vec<String> = upstream.map(|upstream| self.runs[upstream].stage.clone()).collect();
            after.sort_unstable();
            after.dedup();
            let label = if run.stage.is_empty() { "runs" } else { &run.stage };
            jobs.push(ArrayJob {
                stage: run.stage.clone(),
                path: self.root.join(format!("{label}.sbatch")),
                script: self.script(&format!("{sweep}-{label}"), &program, &runs, options),
                after,
            });
        }
        Ok(jobs)
    }

    /// Which runs are left to do: what starts from a run that failed, and is not tried again, cannot be done.
    fn left(&self, retry_failed: bool) -> Vec<bool> {
        let mut left = Vec::with_capacity(self.runs.len());
        for run in &self.runs {
            let is_finished = |upstream: usize| self.runs[upstream].state() == RunState::Finished;
            let can_start = |upstream: usize| left[upstream] || is_finished(upstream);
            let can_start = run.upstream.is_none_or(can_start);
            left.push(match run.state() {
                RunState::Finished | RunState::SourceChanged => false,
                RunState::Failed => retry_failed && can_start,
                _ => can_start,
            });
        }
        left
    }

    fn script(&self, name: &str, program: &str, runs: &[&PlannedRun], options: &SlurmOptions) -> String {
        let at_once = options.jobs.map(|jobs| format!("%{jobs}")).unwrap_or_default();
        let output = self.root.join(format!("{name}-%A_%a.out"));
        let mut script = format!(
            "#!/bin/sh\n#SBATCH --job-name={}\n#SBATCH --array=0-{}{at_once}\n#SBATCH --output={}\n#SBATCH --open-mode=append\n",
            quote(name),
            runs.len() - 1,
            quote(&output.to_string_lossy()),
        );
        // Writing to a string does not fail.
        for option in &options.options {
            let _ = writeln!(script, "#SBATCH {option}");
        }
        script.push_str(
            "export RAYON_NUM_THREADS=\"${SLURM_CPUS_PER_TASK:-1}\"\ncase \"$SLURM_ARRAY_TASK_ID\" in\n",
        );
        for (at, run) in runs.iter().enumerate() {
            let command = run.command_of(program);
            // `exec` lets the signals of Slurm reach the run, which saves and stops. It fails then, so that
            // no other job takes it for finished.
            let command = match run.sources.environment.is_empty() {
                true => format!("exec {command} --must-finish"),
                false => format!("exec env {command} --must-finish"),
            };
            let _ = writeln!(script, "{at}) {command} ;;");
        }
        script.push_str("*) echo \"there is no task $SLURM_ARRAY_TASK_ID\" >&2; exit 1 ;;\nesac\n");
        script
    }

    /// Runs that are left out as the runs that they started from are others now, each with what is to be done
    /// about it.
    pub fn stale(&self) -> Vec<(&PlannedRun, String)> {
        let stale = self.runs.iter().filter(|run| run.state() == RunState::SourceChanged);
        stale.map(|run| (run, run.advice())).collect()
    }

    /// Writes the scripts and submits them. `submitted` is told the number of each job, with its stage, as
    /// soon as there is one.
    pub fn submit(
        &self,
        jobs: &[ArrayJob],
        mut submitted: impl FnMut(&ArrayJob, &str),
    ) -> Result<(), SweepError> {
        let mut numbers: HashMap<&str, String> = HashMap::new();
        for job in jobs {
            fs::create_dir_all(&self.root).map_err(ReportError::io("create", &self.root))?;
            atomic::write_bytes(&job.path, &job.script).map_err(ReportError::from)?;
            let after: Vec<&str> = job
                .after
                .iter()
                .filter_map(|stage| numbers.get(stage.as_str()))
                .map(String::as_str)
                .collect();
            let number = sbatch(job, &after)?;
            submitted(job, &number);
            numbers.insert(&job.stage, number);
        }
        Ok(())
    }
}

fn sbatch(job: &ArrayJob, after: &[&str]) -> Result<String, SweepError> {
    let mut command = Command::new("sbatch");
    command.arg("--parsable");
    if !after.is_empty() {
        command.arg(format!("--dependency=afterok:{}", after.join(":")));
    }
    let output = command.arg(&job.path).stdin(Stdio::null()).output().map_err(SweepError::NoSbatch)?;
    let fail = |reason: &str| SweepError::Sbatch {
        script: job.path.display().to_string(),
        reason: reason.trim().to_owned(),
    };
    if !output.status.success() {
        return Err(fail(&String::from_utf8_lossy(&output.stderr)));
    }
    // `1234` or `1234;cluster`.
    let text = String::from_utf8_lossy(&output.stdout);
    let number = text.trim().split(';').next().unwrap_or_default();
    if number.is_empty() { Err(fail("it printed no job number")) } else { Ok(number.to_owned()) }
}
