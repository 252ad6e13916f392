//! What ran a run: program, machine, and command.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

use super::ReportError;
use super::utc::rfc3339;
use crate::component::{Package, packages};
use crate::nn::simd::Vectors;
use crate::weights::atomic;

/// Everything about the surroundings of a run that may explain its numbers.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Environment {
    /// Version of this program.
    pub version: String,
    /// What brought the components of the program.
    #[serde(default)]
    pub packages: Vec<Package>,
    /// Commit checked out in the working directory, if that is a git repository.
    pub git_commit: Option<String>,
    /// When the process started, RFC 3339 in UTC.
    pub started: String,
    /// The command with its arguments.
    pub command: String,
    /// Where it was started.
    pub directory: String,
    /// The machine's name.
    pub hostname: Option<String>,
    /// The operating system with its version.
    pub os: String,
    /// The processor.
    pub cpu: Option<String>,
    /// The vectors that it computes with.
    #[serde(default)]
    pub vectors: Option<String>,
    /// Logical cores.
    pub cores: usize,
    /// Memory in bytes.
    pub memory: u64,
    /// What the tensors live on: `cpu`, `cuda:0 (NVIDIA H200)`.
    pub device: String,
    /// Worker threads.
    pub threads: usize,
    /// The processes that trained together, if there were several: how many, and what connected them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processes: Option<String>,
}

impl Environment {
    /// Looks around. `device` and `threads` are what the run was given.
    pub fn collect(device: &str, threads: usize) -> Self {
        let system = System::new_with_specifics(
            RefreshKind::nothing()
                .with_cpu(CpuRefreshKind::nothing())
                .with_memory(MemoryRefreshKind::nothing().with_ram()),
        );
        let directory = std::env::current_dir().unwrap_or_default();
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            packages: packages(),
            git_commit: convmae_commit::checked_out(&directory),
            started: rfc3339(SystemTime::now()),
            command: command_line(
                std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()),
            ),
            directory: directory.display().to_string(),
            hostname: System::host_name(),
            os: format!(
                "{}, {}",
                System::long_os_version().unwrap_or_else(|| std::env::consts::OS.to_owned()),
                std::env::consts::ARCH
            ),
            cpu: system
                .cpus()
                .first()
                .map(|cpu| cpu.brand().trim().to_owned())
                .filter(|brand| !brand.is_empty()),
            vectors: Some(Vectors::detected().to_string()),
            cores: system.cpus().len(),
            memory: system.total_memory(),
            device: device.to_owned(),
            threads,
            processes: None,
        }
    }

    /// Writes it to `path`.
    pub fn write(&self, path: &Path) -> Result<(), ReportError> {
        Ok(atomic::write_json(path, self)?)
    }

    /// Reads it from `path`.
    pub fn read(path: &Path) -> Result<Self, ReportError> {
        let text = fs::read_to_string(path).map_err(ReportError::io("read", path))?;
        serde_json::from_str(&text).map_err(|error| ReportError::format(path, "environment", error))
    }

    /// Labels and values for a table; what is unknown is left out.
    pub fn rows(&self) -> Vec<(&'static str, String)> {
        let gib = self.memory as f64 / f64::from(1_u32 << 30);
        [
            ("Started", Some(self.started.clone())),
            ("Command", Some(self.command.clone())),
            ("Directory", Some(self.directory.clone())),
            ("Version", Some(self.version.clone())),
            ("Components", (!self.packages.is_empty()).then(|| self.packages())),
            ("Commit of the directory", self.git_commit.clone()),
            ("Device", Some(self.device.clone())),
            ("Threads", Some(self.threads.to_string())),
            ("Processes", self.processes.clone()),
            ("Processor", self.cpu.as_ref().map(|cpu| format!("{cpu}, {} logical cores", self.cores))),
            ("Vectors", self.vectors.clone()),
            ("Memory", (self.memory > 0).then(|| format!("{gib:.1} GiB"))),
            ("System", Some(self.os.clone())),
            ("Host", self.hostname.clone()),
        ]
        .into_iter()
        .filter_map(|(label, value)| Some((label, value?)))
        .collect()
    }

    fn packages(&self) -> String {
        self.packages.iter().map(Package::to_string).collect::<Vec<_>>().join(", ")
    }
}

/// The arguments as a shell would take them.
fn command_line(arguments: impl Iterator<Item = String>) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    arguments
        .map(|argument| {
            if !argument.is_empty() && argument.chars().all(plain) {
                argument
            } else {
                format!("'{}'", argument.replace('\'', r"'\''"))
            }
        })
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn arguments_with_spaces_or_quotes_can_be_pasted_back() {
        let arguments = ["convmae", "run", "a b.yaml", "--set", "name='x'", ""];
        assert_eq!(
            command_line(arguments.into_iter().map(String::from)),
            r"convmae run 'a b.yaml' --set 'name='\''x'\''' ''"
        );
    }

    #[test]
    fn the_environment_names_what_was_given() {
        let environment = Environment::collect("cpu", 2);
        let rows = environment.rows();
        assert!(rows.contains(&("Device", "cpu".to_owned())) && rows.contains(&("Threads", "2".to_owned())));
        assert!(environment.started.ends_with('Z'));
    }

    #[test]
    fn an_environment_comes_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("environment.json");
        let environment = Environment::collect("cpu", 2);
        environment.write(&path).unwrap();
        assert_eq!(Environment::read(&path).unwrap(), environment);
        fs::write(&path, "{}").unwrap();
        assert!(Environment::read(&path).unwrap_err().to_string().contains("not a valid environment"));
    }
}
