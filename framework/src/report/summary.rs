//! `summary.json`: the final figures of a run, flat, and how it stands.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::ReportError;
use crate::weights::atomic;

/// Why a run has ended before its length, if it has.
pub const STOPPED_EARLY: &str = "stopped_early";

/// Names and values, sorted by name: metrics, parameter counts, durations, the status of the run.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Summary(BTreeMap<String, Value>);

impl Summary {
    /// Sets a value. A number that JSON cannot hold (NaN, infinity) becomes `null`.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<Value>) {
        self.0.insert(name.into(), value.into());
    }

    /// The value of `name`.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// All values, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// Whether nothing was set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Writes it to `path`.
    pub fn write(&self, path: &Path) -> Result<(), ReportError> {
        Ok(atomic::write_json(path, self)?)
    }

    /// Reads it from `path`. Nested values are refused.
    pub fn read(path: &Path) -> Result<Self, ReportError> {
        let text = fs::read_to_string(path).map_err(ReportError::io("read", path))?;
        let summary: Self =
            serde_json::from_str(&text).map_err(|error| ReportError::format(path, "summary", error))?;
        if let Some((name, _)) = summary.0.iter().find(|(_, value)| value.is_array() || value.is_object()) {
            return Err(ReportError::format(path, "summary", format!("`{name}` is nested")));
        }
        Ok(summary)
    }
}

/// How a run stands.
#[derive(Debug, Clone, PartialEq)]
pub enum Status {
    /// It goes on.
    Running,
    /// It did all its steps.
    Finished,
    /// It was stopped and can be resumed.
    Interrupted,
    /// It ended with an error.
    Failed(String),
}

impl Status {
    /// One word for it, as `summary.json` has it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Finished => "finished",
            Self::Interrupted => "interrupted",
            Self::Failed(_) => "failed",
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_summary_comes_back_sorted_and_a_missing_number_is_null() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("summary.json");
        let mut summary = Summary::default();
        summary.set("val/loss", 0.25);
        summary.set("status", "finished");
        summary.set("steps", 1200_u64);
        summary.set("best", f64::NAN);
        summary.write(&path).unwrap();
        assert_eq!(Summary::read(&path).unwrap(), summary);
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(
            text,
            "{\n  \"best\": null,\n  \"status\": \"finished\",\n  \"steps\": 1200,\n  \"val/loss\": 0.25\n}\n"
        );
    }

    #[test]
    fn a_broken_or_nested_summary_is_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("summary.json");
        for content in ["", "[1]", "{\"a\": ", "{\"a\": {\"b\": 1}}"] {
            fs::write(&path, content).unwrap();
            let message = Summary::read(&path).unwrap_err().to_string();
            assert!(message.contains("summary.json is not a valid summary"), "{message}");
        }
    }
}
