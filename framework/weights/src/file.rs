//! What a weights file holds, whatever its format.

use std::collections::HashSet;

use serde_json::{Map, Value as Json};

use super::error::FormatError;
use super::map::TensorMap;
use super::text::visible;

/// The content of a weights file.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightsFile {
    /// The model's tensors under the names that they have in the file: wrappers such as `{"model": ..}` are
    /// removed.
    pub tensors: TensorMap,
    /// The entry of the file that they are, as `model` or `teacher`; none if they are the file.
    pub entry: Option<String>,
    /// Other entries that hold tensors, as `model_ema`.
    pub others: Vec<String>,
    /// What lies beside the tensors and is neither a tensor nor a plain value: its place, and its class.
    pub passed_over: Vec<(String, String)>,
    /// The optimizer's state, if the file has one and it was asked for.
    pub optimizer: Option<OptimizerState>,
    /// What else the file holds (epoch, arguments, ..), as plain values.
    pub metadata: Map<String, Json>,
}

/// The state of an optimizer.
#[derive(Clone, Debug, PartialEq)]
pub struct OptimizerState {
    /// `<index>.<name>`, as `0.exp_avg`; the index counts parameters over all groups. Plain numbers, such as
    /// the `step` of old files, become scalars.
    pub tensors: TensorMap,
    /// The groups with their settings; null if the file does not say.
    pub param_groups: Json,
}

/// What of a file to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Selection<'a> {
    /// The entry that holds the model, or what the names of its tensors begin with; found if left out.
    pub entry: Option<&'a str>,
    /// Whether the optimizer's state is read, too.
    pub optimizer: bool,
}

/// Objects that are named among those passed over.
const NAMED: usize = 5;

impl WeightsFile {
    /// A file of tensors and nothing else.
    pub(super) fn of(tensors: TensorMap) -> Self {
        Self {
            tensors,
            entry: None,
            others: Vec::new(),
            passed_over: Vec::new(),
            optimizer: None,
            metadata: Map::new(),
        }
    }

    /// What of the file was taken where it had a choice, and what was passed over: lines for a log.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        // `model` alone is what everybody expects.
        if let Some(entry) =
            self.entry.as_deref().filter(|entry| *entry != "model" || !self.others.is_empty())
        {
            let others: Vec<_> = self.others.iter().map(|other| format!("`{}`", visible(other))).collect();
            let rest =
                if others.is_empty() { String::new() } else { format!("; not from {}", others.join(", ")) };
            notes.push(format!("taken from `{}`{rest}", visible(entry)));
        }
        if !self.passed_over.is_empty() {
            let object =
                |(place, class): &(String, String)| format!("{} ({})", visible(place), visible(class));
            let mut objects: Vec<_> = self.passed_over.iter().take(NAMED).map(object).collect();
            if self.passed_over.len() > NAMED {
                objects.push("..".to_owned());
            }
            notes.push(format!("{} passed over: {}", self.passed_over.len(), objects.join(", ")));
        }
        notes
    }

    /// The part of the tensors whose names begin with `entry`, if one was asked for and is none of the file's.
    pub(super) fn within(mut self, entry: Option<&str>) -> Result<Self, FormatError> {
        let Some(entry) = entry.filter(|entry| self.entry.as_deref() != Some(entry)) else {
            return Ok(self);
        };
        let (inside, rest) = self.tensors.split_prefix(&format!("{entry}."));
        if inside.is_empty() {
            let mut entries: Vec<String> = self.entry.into_iter().chain(self.others).collect();
            let mut known = HashSet::new();
            let words = rest.names().filter_map(|name| name.split('.').next());
            entries.extend(words.filter(|word| known.insert(*word)).map(str::to_owned));
            return Err(FormatError::NoEntry { entry: entry.to_owned(), entries });
        }
        (self.tensors, self.entry) = (inside, Some(entry.to_owned()));
        Ok(self)
    }
}
