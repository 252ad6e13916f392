//! What `torch.save` was given: a state dict, or a dict with one.

use serde_json::{Map, Value as Json};

use super::super::error::FormatError;
use super::super::file::{OptimizerState, Part, WeightsFile};
use super::super::map::TensorMap;
use super::super::pickle::{TensorRef, Value};
use super::super::tensor::HostTensor;
use super::storages::{Budget, Storages};
use super::view;

/// Finds the model and the rest in the unpickled value and reads the tensors asked for.
pub(super) fn read(
    value: Value,
    storages: &mut impl Storages,
    file_len: u64,
    part: Part,
) -> Result<WeightsFile, FormatError> {
    let (model, rest) = split(value)?;
    let mut reader = Reader::new(storages, file_len);
    let tensors = reader.state_dict(&model)?;
    let mut optimizer = None;
    let mut metadata = Map::new();
    for (key, value) in rest {
        match key.key() {
            key if key == "optimizer" => {
                if part == Part::All {
                    optimizer = Some(reader.optimizer(&value)?);
                }
            }
            key => {
                metadata.insert(key, value.to_json());
            }
        }
    }
    Ok(WeightsFile { tensors, ema: None, optimizer, metadata })
}

type Entries = Vec<(Value, Value)>;

/// The state dict and what lies beside it.
fn split(value: Value) -> Result<(Entries, Entries), FormatError> {
    let Value::Dict(mut entries) = value else {
        return Err(FormatError::NoModel { found: format!("a {}", value.kind()) });
    };
    for wrapper in ["model", "state_dict"] {
        let found = entries.iter().rposition(|(key, value)| {
            matches!(key, Value::Str(key) if key == wrapper) && matches!(value, Value::Dict(_))
        });
        if let Some((_, Value::Dict(model))) = found.map(|at| entries.swap_remove(at)) {
            return Ok((model, entries));
        }
    }
    if entries.iter().any(|(_, value)| matches!(value, Value::Tensor(_))) {
        return Ok((entries, Vec::new()));
    }
    let keys: Vec<_> = entries.iter().map(|(key, _)| key.key()).collect();
    Err(FormatError::NoModel { found: format!("a dict of [{}]", keys.join(", ")) })
}

struct Reader<'a, S> {
    storages: &'a mut S,
    budget: Budget,
}

impl<'a, S: Storages> Reader<'a, S> {
    fn new(storages: &'a mut S, file_len: u64) -> Self {
        Self { storages, budget: Budget::new(file_len) }
    }

    fn state_dict(&mut self, entries: &[(Value, Value)]) -> Result<TensorMap, FormatError> {
        let mut tensors = TensorMap::new();
        for (key, value) in entries {
            let name = key.key();
            let Value::Tensor(tensor) = value else {
                return Err(FormatError::NotATensor { name, found: value.kind() });
            };
            let tensor = self.tensor(&name, tensor)?;
            tensors.insert(name, tensor);
        }
        Ok(tensors)
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
                Value::Tensor(tensor) => self.tensor(&name, tensor)?,
                Value::Int(step) => HostTensor::scalar_i64(i64::try_from(*step).unwrap_or(i64::MAX)),
                Value::Float(number) => HostTensor::scalar_f64(*number),
                _ => continue,
            };
            tensors.insert(name, tensor);
        }
        Ok(())
    }

    fn tensor(&mut self, name: &str, tensor: &TensorRef) -> Result<HostTensor, FormatError> {
        let refuse = |reason| FormatError::Tensor { name: name.to_owned(), reason };
        let bytes = view::checked_len(tensor).map_err(refuse)?;
        self.budget.spend(bytes)?;
        let storage = self.storages.bytes(&tensor.storage, &mut self.budget)?;
        view::gather(tensor, storage).map_err(refuse)
    }
}
