//! Where in what `torch.save` was given the model is.

use super::super::error::FormatError;
use super::super::pickle::{Entries, Value};

/// Keys under which training programs save the model: timm and the official code, Lightning and OpenMMLab,
/// DeepSpeed, and PyTorch's own tutorials.
const WRAPPERS: [&str; 8] =
    ["model", "state_dict", "module", "model_state_dict", "model_state", "net", "network", "params"];

/// Dicts within dicts that are looked into.
const MAX_NESTING: usize = 4;
/// Dicts with tensors that are told apart, and bytes of a key on the way to one.
const MAX_CANDIDATES: usize = 1000;
const MAX_KEY: usize = 200;
/// Keys that a message lists.
const LISTED: usize = 12;

/// A state dict and what lies beside it.
pub(super) struct Chosen {
    pub model: Entries,
    /// The entry that it is; none if it is the whole file.
    pub entry: Option<String>,
    /// Other entries that hold tensors.
    pub others: Vec<String>,
    /// Entries of the file without tensors, and the optimizer.
    pub rest: Entries,
}

/// A dict with tensors.
struct Candidate {
    path: Vec<String>,
    tensors: usize,
}

impl Candidate {
    fn name(&self) -> String {
        self.path.join(".")
    }
}

/// Finds the entry that was asked for, or the only one, or the one that training programs mean.
pub(super) fn choose(mut value: Value, wanted: Option<&str>) -> Result<Chosen, FormatError> {
    let mut candidates = Vec::new();
    search(&value, &mut Vec::new(), &mut candidates);
    let named = |wanted: &str| candidates.iter().position(|candidate| candidate.name() == wanted);
    let chosen = match wanted.and_then(named) {
        Some(chosen) => Some(chosen),
        None => usual(&candidates).map_err(|error| match (wanted, error) {
            (Some(entry), FormatError::Entries { entries }) => {
                FormatError::NoEntry { entry: entry.to_owned(), entries }
            }
            (_, error) => error,
        })?,
    };
    let Some(chosen) = chosen.map(|at| candidates.swap_remove(at)) else {
        return Err(FormatError::NoModel { found: describe(&value) });
    };
    let model = take(&mut value, &chosen.path);
    let is_beside = |candidate: &&Candidate| !candidate.path.starts_with(&chosen.path);
    let beside: Vec<&Candidate> = candidates.iter().filter(is_beside).collect();
    let holds_tensors =
        |key: &str| beside.iter().any(|other| other.path.first().is_some_and(|top| top == key));
    let rest = match value {
        Value::Dict(entries) if !chosen.path.is_empty() => entries,
        _ => Vec::new(),
    };
    let top = chosen.path.first();
    Ok(Chosen {
        model,
        others: beside.iter().filter(|other| !other.path.is_empty()).map(|other| other.name()).collect(),
        rest: rest
            .into_iter()
            .filter(|(key, value)| {
                let key = key.key();
                Some(&key) != top && !holds_tensors(&key) && !value.is_tensor()
            })
            .collect(),
        entry: (!chosen.path.is_empty()).then(|| chosen.name()),
    })
}

/// All dicts that hold tensors, outermost first; those of optimizers are none of a model.
fn search(value: &Value, path: &mut Vec<String>, found: &mut Vec<Candidate>) {
    let Some(entries) = value.entries() else { return };
    let tensors = entries.iter().filter(|(_, value)| value.is_tensor()).count();
    let is_wrapper = path.last().is_some_and(|key| WRAPPERS.contains(&key.as_str()));
    if tensors > 0 || entries.is_empty() && is_wrapper {
        found.push(Candidate { path: path.clone(), tensors });
    }
    if path.len() == MAX_NESTING {
        return;
    }
    for (key, value) in entries.iter().filter(|(_, value)| value.entries().is_some()) {
        let key = key.key();
        if !key.starts_with("optim") && key.len() <= MAX_KEY && found.len() < MAX_CANDIDATES {
            path.push(key);
            search(value, path, found);
            path.pop();
        }
    }
}

/// Follows the usual keys as far as there are tensors below. What is then left has to be one dict.
fn usual(candidates: &[Candidate]) -> Result<Option<usize>, FormatError> {
    let mut path: Vec<String> = Vec::new();
    while let Some(key) = WRAPPERS.into_iter().find(|key| {
        candidates.iter().any(|candidate| {
            candidate.path.starts_with(&path)
                && candidate.path.get(path.len()).is_some_and(|next| next == key)
        })
    }) {
        path.push(key.to_owned());
    }
    let within: Vec<usize> =
        (0..candidates.len()).filter(|&at| candidates[at].path.starts_with(&path)).collect();
    // A dict of tensors, unless there are more of them in one that it holds: states of random generators
    // lie beside models.
    let most = within.iter().map(|&at| candidates[at].tensors).max();
    match within.as_slice() {
        [] => Ok(None),
        &[first, ..] if candidates[first].path == path && Some(candidates[first].tensors) == most => {
            Ok(Some(first))
        }
        &[only] => Ok(Some(only)),
        several => {
            let named = several.iter().map(|&at| &candidates[at]).filter(|candidate| candidate.path != path);
            match named.collect::<Vec<_>>().as_slice() {
                [only] => Ok(candidates.iter().position(|candidate| candidate.path == only.path)),
                several => Err(FormatError::Entries {
                    entries: several.iter().map(|candidate| candidate.name()).collect(),
                }),
            }
        }
    }
}

/// Takes the entries of a dict out.
fn take(value: &mut Value, path: &[String]) -> Entries {
    let mut at = value.entries_mut();
    for key in path {
        let entry = at.and_then(|entries| entries.iter_mut().rev().find(|(known, _)| known.key() == *key));
        at = entry.and_then(|(_, value)| value.entries_mut());
    }
    at.map(std::mem::take).unwrap_or_default()
}

/// What there is instead of a model.
fn describe(value: &Value) -> String {
    let whole = |class: &str| format!("a whole `{class}`: save its `state_dict()`");
    match value {
        Value::Dict(entries) => {
            let mut keys: Vec<String> = entries.iter().take(LISTED).map(|(key, _)| key.key()).collect();
            let module = entries.iter().zip(&keys).find_map(|((_, value), key)| match value {
                Value::Object { class, .. } if WRAPPERS.contains(&key.as_str()) => {
                    Some(format!("; `{key}` is {}", whole(class)))
                }
                _ => None,
            });
            if entries.len() > LISTED {
                keys.push("..".to_owned());
            }
            format!("a dict of [{}]{}", keys.join(", "), module.unwrap_or_default())
        }
        Value::Object { class, .. } => whole(class),
        other => format!("a {}", other.kind()),
    }
}
