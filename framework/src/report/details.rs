//! `report.json`: what the page of a run shows and none of its other files says.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::ReportError;
use crate::component::ParameterGroup;
use crate::loader::CorruptSample;
use crate::weights::atomic;

/// The model, the optimizer, and what went wrong.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Details {
    /// The nodes of the model graph, sources first.
    pub nodes: Vec<GraphNode>,
    /// The optimizer's parameter groups.
    pub parameter_groups: Vec<ParameterGroup>,
    /// The names of the classes of pixels that the model predicts, by index.
    pub pixel_classes: Vec<String>,
    /// The metric that decides which checkpoint is best.
    pub best: Option<BestMetric>,
    /// Keys of the recipe that nobody wrote: they hold their defaults.
    pub defaults: Vec<String>,
    /// Samples that could not be read and were left out.
    pub corrupt_samples: Vec<CorruptSample>,
    /// Why the run failed.
    pub error: Option<String>,
}

/// A metric, and which of its values are good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BestMetric {
    /// Its name: `top1`.
    pub name: String,
    /// Whether more of it is better.
    pub more_is_better: bool,
}

/// A node of the model graph.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GraphNode {
    /// Its name in the recipe.
    pub name: String,
    /// The type of its component.
    #[serde(rename = "type")]
    pub type_name: String,
    /// Where its inputs come from: `backbone`, or `backbone.s2` for one level.
    pub from: Vec<String>,
    /// What it yields: `s1 [784, 256]` for 784 positions of 256 channels.
    pub outputs: Vec<String>,
    /// Number of parameters.
    pub parameters: u64,
    /// Multiply-accumulates of a forward pass over one image, in units of 10^9.
    pub gmacs: f64,
}

impl Details {
    /// Writes them to `path`.
    pub fn write(&self, path: &Path) -> Result<(), ReportError> {
        Ok(atomic::write_json(path, self)?)
    }

    /// Reads them from `path`.
    pub fn read(path: &Path) -> Result<Self, ReportError> {
        let text = fs::read_to_string(path).map_err(ReportError::io("read", path))?;
        serde_json::from_str(&text).map_err(|error| ReportError::format(path, "report", error))
    }
}
