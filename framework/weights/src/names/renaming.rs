//! A plan of new names.

use std::collections::{HashMap, HashSet};

use super::pattern::Rule;
use crate::error::FormatError;
use crate::map::TensorMap;
use crate::tensor::{HostTensor, byte_len};

/// New names for the tensors of a file, and which tensors of it each is made of.
#[derive(Clone, Debug)]
pub struct Renaming {
    originals: Vec<String>,
    entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub name: String,
    pub source: Source,
}

/// Tensors of the file, by their place in it.
#[derive(Clone, Debug)]
pub(super) enum Source {
    Whole(usize),
    /// One after the other along the first axis.
    Joined(Vec<usize>),
    /// One of equal parts along the first axis.
    Part {
        of: usize,
        part: usize,
        parts: usize,
    },
}

/// Modules that wrap others, and put their name before those of what they wrap, wherever that is:
/// `DistributedDataParallel` and moving averages, `torch.compile`, activation checkpointing, FSDP.
const WRAPPERS: [&str; 5] =
    ["module", "_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module", "_forward_module"];

impl Renaming {
    /// All names as they are.
    pub fn new(tensors: &TensorMap) -> Self {
        let entry = |(at, name): (usize, &str)| Entry { name: name.to_owned(), source: Source::Whole(at) };
        Self {
            originals: tensors.names().map(str::to_owned).collect(),
            entries: tensors.names().enumerate().map(entry).collect(),
        }
    }

    /// The new names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| entry.name.as_str())
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Replaces the plan.
    ///
    /// # Errors
    /// If two tensors would have the same name.
    pub(super) fn replace(&mut self, entries: Vec<Entry>) -> Result<(), FormatError> {
        let mut known: HashMap<&str, &Source> = HashMap::new();
        for entry in &entries {
            if let Some(other) = known.insert(&entry.name, &entry.source) {
                return Err(FormatError::SameName {
                    name: entry.name.clone(),
                    from: [self.original(other), self.original(&entry.source)],
                });
            }
        }
        self.entries = entries;
        Ok(())
    }

    /// Renames where `rename` says so, unless another tensor has that name; returns how many.
    pub(super) fn rename_free(&mut self, rename: impl Fn(&str) -> Option<String>) -> usize {
        let mut known: HashSet<String> = self.names().map(str::to_owned).collect();
        let mut count = 0;
        for entry in &mut self.entries {
            if let Some(name) = rename(&entry.name).filter(|name| !known.contains(name)) {
                known.insert(name.clone());
                entry.name = name;
                count += 1;
            }
        }
        count
    }

    /// Takes off the names that wrapping modules add, but none that are `expected`; returns which.
    pub fn unwrap_modules(&mut self, expected: &HashSet<&str>) -> Vec<&'static str> {
        let is_wrapper = |word: &str| WRAPPERS.contains(&word);
        let is_wrapped = |name: &str| !expected.contains(name) && name.split('.').any(is_wrapper);
        let found = |wrapper: &&'static str| {
            self.names().any(|name| is_wrapped(name) && name.split('.').any(|word| word == *wrapper))
        };
        let found = WRAPPERS.iter().filter(|wrapper| found(wrapper)).copied().collect();
        self.rename_free(|name| {
            is_wrapped(name)
                .then(|| name.split('.').filter(|word| !is_wrapper(word)).collect::<Vec<_>>().join("."))
        });
        found
    }

    /// Renames by the first rule that fits each name; returns how many, and the rules that fit none.
    ///
    /// # Errors
    /// If two tensors would have the same name.
    pub fn rename<'r>(&mut self, rules: &'r [Rule]) -> Result<(usize, Vec<&'r Rule>), FormatError> {
        let mut is_used = vec![false; rules.len()];
        let mut count = 0;
        let mut entries = self.entries.clone();
        for entry in &mut entries {
            let found = rules.iter().enumerate().find_map(|(at, rule)| Some((at, rule.apply(&entry.name)?)));
            if let Some((at, name)) = found {
                (is_used[at], entry.name) = (true, name);
                count += 1;
            }
        }
        self.replace(entries)?;
        Ok((count, rules.iter().zip(is_used).filter(|(_, is_used)| !is_used).map(|(rule, _)| rule).collect()))
    }

    /// Gives the tensors of the file that this was planned for their new names.
    ///
    /// # Errors
    /// If tensors that are to be joined do not fit each other, or one cannot be split.
    pub fn apply(self, tensors: TensorMap) -> Result<TensorMap, FormatError> {
        let mut tensors: Vec<Option<HostTensor>> =
            tensors.into_iter().map(|(_, tensor)| Some(tensor)).collect();
        let mut renamed = TensorMap::new();
        for Entry { name, source } in &self.entries {
            let refuse = || FormatError::Join {
                name: name.clone(),
                from: source.indices().iter().map(|&at| self.originals[at].clone()).collect(),
            };
            let tensor = match source {
                Source::Whole(at) => tensors.get_mut(*at).and_then(Option::take),
                Source::Joined(parts) => {
                    let parts: Option<Vec<_>> = parts.iter().map(|&at| tensors.get_mut(at)?.take()).collect();
                    parts.and_then(join)
                }
                Source::Part { of, part, parts } => {
                    tensors.get(*of).and_then(Option::as_ref).and_then(|whole| split(whole, *part, *parts))
                }
            };
            renamed.insert(name.clone(), tensor.ok_or_else(refuse)?);
        }
        Ok(renamed)
    }

    fn original(&self, source: &Source) -> String {
        source.indices().first().map(|&at| self.originals[at].clone()).unwrap_or_default()
    }
}

impl Source {
    pub fn indices(&self) -> Vec<usize> {
        match self {
            Self::Whole(at) | Self::Part { of: at, .. } => vec![*at],
            Self::Joined(parts) => parts.clone(),
        }
    }
}

/// Tensors one after the other along the first axis; `None` if they differ in type or another axis.
fn join(parts: Vec<HostTensor>) -> Option<HostTensor> {
    let (first, others) = parts.split_first()?;
    let (_, inner) = first.shape.split_first()?;
    let fits = |other: &HostTensor| other.dtype == first.dtype && other.shape.get(1..) == Some(inner);
    if !others.iter().all(fits) {
        return None;
    }
    let rows: usize = parts.iter().map(|part| part.shape[0]).sum();
    let shape = std::iter::once(rows).chain(inner.iter().copied()).collect();
    let dtype = first.dtype;
    HostTensor::new(dtype, shape, parts.into_iter().flat_map(|part| part.data).collect()).ok()
}

/// One of equal parts along the first axis.
fn split(whole: &HostTensor, part: usize, parts: usize) -> Option<HostTensor> {
    let (&rows, inner) = whole.shape.split_first()?;
    if !rows.is_multiple_of(parts) {
        return None;
    }
    let shape: Vec<usize> = std::iter::once(rows / parts).chain(inner.iter().copied()).collect();
    let bytes = byte_len(whole.dtype, &shape).ok()?;
    let data = whole.data.get(part * bytes..(part + 1) * bytes)?;
    HostTensor::new(whole.dtype, shape, data.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn tensors(names: &[&str]) -> TensorMap {
        let tensor = |at: usize| HostTensor::from_f32(vec![1, 2], &[at as f32, 0.5]).unwrap();
        names.iter().enumerate().map(|(at, name)| (*name, tensor(at))).collect()
    }

    fn unwrapped(names: &[&str], expected: &[&str]) -> (Vec<String>, Vec<&'static str>) {
        let mut renaming = Renaming::new(&tensors(names));
        let wrappers = renaming.unwrap_modules(&expected.iter().copied().collect());
        (renaming.names().map(str::to_owned).collect(), wrappers)
    }

    #[test]
    fn names_of_wrapping_modules_are_taken_off_wherever_they_are() {
        let names =
            ["module._orig_mod.a.w", "a._checkpoint_wrapped_module.b", "module.module.c", "submodule.d"];
        let (unwrapped, wrappers) = unwrapped(&names, &[]);
        assert_eq!(unwrapped, ["a.w", "a.b", "c", "submodule.d"]);
        assert_eq!(wrappers, ["module", "_orig_mod", "_checkpoint_wrapped_module"]);
    }

    #[test]
    fn no_name_is_taken_off_that_the_model_has_or_another_tensor_would_get() {
        let (kept, wrappers) = unwrapped(&["module.a", "b"], &["module.a"]);
        assert_eq!((kept, wrappers.len()), (vec!["module.a".to_owned(), "b".to_owned()], 0));
        assert_eq!(unwrapped(&["module.a", "a"], &[]).0, ["module.a", "a"]);
    }

    #[test]
    fn rules_rename_and_those_that_fit_nothing_are_told() {
        let rules = [("layers.*", "blocks.*"), ("laiers.*", "blocks.*")];
        let rules = rules.map(|(from, to)| Rule::new(from, to).unwrap());
        let file = tensors(&["layers.0.w", "norm"]);
        let mut renaming = Renaming::new(&file);
        let (count, unused) = renaming.rename(&rules).unwrap();
        assert_eq!((count, unused.len(), unused[0].from.text()), (1, 1, "laiers.*"));
        let renamed = renaming.apply(file.clone()).unwrap();
        assert_eq!(renamed.get("blocks.0.w"), file.get("layers.0.w"));
        assert_eq!(renamed.get("norm"), file.get("norm"));
    }

    #[test]
    fn two_tensors_do_not_get_one_name() {
        let rule = [Rule::new("*.w", "*").unwrap(), Rule::new("*.v", "*").unwrap()];
        let error = Renaming::new(&tensors(&["a.w", "a.v"])).rename(&rule).unwrap_err().to_string();
        assert_eq!(error, "two of its tensors would be called `a`: `a.w` and `a.v`");
    }
}
