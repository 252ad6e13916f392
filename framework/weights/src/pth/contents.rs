//! What `torch.save` was given: a state dict, or a dict with one.

use serde_json::Value as Json;

use super::super::error::FormatError;
use super::super::file::{OptimizerState, Selection, WeightsFile};
use super::super::map::TensorMap;
use super::super::pickle::Value;
use super::super::tensor::HostTensor;
use super::entry::{Chosen, choose};
use super::storages::{Budget, Storages};
use super::view;

/// Finds the model and the rest in the unpickled value and reads the tensors asked for.
pub(super) fn read(
    value: Value,
    storages: &mut impl Storages,
    file_len: u64,
    selection: Selection<'_>,
) -> Result<WeightsFile, FormatError> {
    let Chosen { model, entry, others, rest } = choose(value, selection.entry)?;
    let mut reader = Reader::new(storages, file_len);
    let mut file = WeightsFile { entry, others, ..WeightsFile::of(TensorMap::new()) };
    for (key, value) in model {
        let name = key.key();
        match reader.tensor(&name, &value)? {
            Some(tensor) => drop(file.tensors.insert(name, tensor)),
            None => file.passed_over.push((name, value.kind().to_owned())),
        }
    }
    for (key, value) in rest {
        let key = key.key();
        if key == "optimizer" {
            file.optimizer = selection.optimizer.then(|| reader.optimizer(&value)).transpose()?;
            continue;
        }
        match value.unknown() {
            Some(class) => file.passed_over.push((key, class.to_owned())),
            None => drop(file.metadata.insert(key, value.to_json())),
        }
    }
    file.within(selection.entry)
}

struct Reader<'a, S> {
    storages: &'a mut S,
    budget: Budget,
}

impl<'a, S: Storages> Reader<'a, S> {
    fn new(storages: &'a mut S, file_len: u64) -> Self {
        Self { storages, budget: Budget::new(file_len) }
    }

    /// `{"state": {index: {name: tensor or number}}, "param_groups": [..]}`.
    fn optimizer(&mut self, value: &Value) -> Result<OptimizerState, FormatError> {
        let mut state = OptimizerState { tensors: TensorMap::new(), param_groups: Json::Null };
        let Value::Dict(entries) = value else { return Ok(state) };
        for (key, value) in entries {
            match (key.key().as_str(), value) {
                ("state", Value::Dict(parameters)) => {
                    for (index, values) in parameters {
                        self.parameter_state(&index.key(), values, &mut state.tensors)?;
                    }
                }
                ("param_groups", groups) => state.param_groups = groups.to_json(),
                _ => {}
            }
        }
        Ok(state)
    }

    fn parameter_state(
        &mut self,
        index: &str,
        values: &Value,
        tensors: &mut TensorMap,
    ) -> Result<(), FormatError> {
        let Value::Dict(values) = values else { return Ok(()) };
        for (key, value) in values {
            let name = format!("{index}.{}", key.key());
            let tensor = match value {
                Value::Int(step) => Some(HostTensor::scalar_i64(i64::try_from(*step).unwrap_or(i64::MAX))),
                Value::Float(number) => Some(HostTensor::scalar_f64(*number)),
                other => self.tensor(&name, other)?,
            };
            tensors.extend(tensor.map(|tensor| (name, tensor)));
        }
        Ok(())
    }

    /// The tensor or array that a value is, if it is one.
    fn tensor(&mut self, name: &str, value: &Value) -> Result<Option<HostTensor>, FormatError> {
        let refuse = |reason| FormatError::Tensor { name: name.to_owned(), reason };
        match value {
            Value::Tensor(tensor) => {
                let bytes = view::checked_len(tensor).map_err(refuse)?;
                self.budget.spend(bytes)?;
                let storage = self.storages.bytes(&tensor.storage, &mut self.budget)?;
                view::gather(tensor, storage).map_err(refuse).map(Some)
            }
            Value::Array(array) => view::contiguous(array).map_err(refuse).map(Some),
            _ => Ok(None),
        }
    }
}
