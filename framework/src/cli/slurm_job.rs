//! The job of Slurm that this process is part of.

use std::env;
use std::process::{Command, Stdio};

use super::output::CliError;

/// A job, or a task of an array of jobs, by its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlurmJob(String);

impl SlurmJob {
    /// That of this process.
    ///
    /// # Errors
    /// If Slurm has not started it.
    pub fn of_environment() -> Result<Self, CliError> {
        Self::told_by(|name| env::var(name).ok()).ok_or_else(|| CliError::Usage {
            message: "--requeue: this is no job of Slurm, `SLURM_JOB_ID` is not set".to_owned(),
            help: Some("leave it out where nothing ends the run before its time".to_owned()),
        })
    }

    fn told_by(variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let of_array = variable("SLURM_ARRAY_JOB_ID").zip(variable("SLURM_ARRAY_TASK_ID"));
        let job = of_array.map(|(array, task)| format!("{array}_{task}"));
        job.or_else(|| variable("SLURM_JOB_ID")).map(Self)
    }

    /// Its number.
    pub fn number(&self) -> &str {
        &self.0
    }

    /// Puts it back into the queue. Slurm ends what is left of it.
    ///
    /// # Errors
    /// What Slurm says.
    pub fn requeue(&self) -> Result<(), CliError> {
        let refused = |reason: String| CliError::Requeue { job: self.0.clone(), reason };
        let output = Command::new("scontrol").args(["requeue", &self.0]).stdin(Stdio::null()).output();
        let output = output.map_err(|error| refused(format!("`scontrol` cannot be started: {error}")))?;
        match output.status.success() {
            true => Ok(()),
            false => Err(refused(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_of_an_array_has_a_number_of_its_own() {
        let told = |variables: &[(&str, &str)]| {
            let find = |name: &str| {
                variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
            };
            SlurmJob::told_by(find).map(|job| job.0)
        };
        assert_eq!(told(&[]), None);
        assert_eq!(told(&[("SLURM_JOB_ID", "7")]).as_deref(), Some("7"));
        let array = [("SLURM_JOB_ID", "9"), ("SLURM_ARRAY_JOB_ID", "7"), ("SLURM_ARRAY_TASK_ID", "2")];
        assert_eq!(told(&array).as_deref(), Some("7_2"));
    }
}
