//! From the names of a file to those of a model.

use std::collections::{BTreeMap, HashSet};

use super::layout::Layout;
use super::pattern::Rule;
use super::renaming::Renaming;
use crate::error::FormatError;
use crate::map::TensorMap;
use crate::text::visible;

/// What a model wants of a file.
#[derive(Clone, Debug)]
pub struct Expected<'a> {
    /// The names of its parameters.
    pub names: HashSet<&'a str>,
    /// What stands before the names of its parts: a file of one part (`blocks1.*`) fits that part
    /// (`backbone.blocks1.*`), unless the file has such names itself.
    pub prefixes: Vec<&'a str>,
    /// What the user says about names.
    pub rules: &'a [Rule],
}

/// Prefixes that are taken off, one after the other.
const MAX_PREFIXES: usize = 8;
/// Words of a prefix.
const MAX_WORDS: usize = 16;

/// Renames the tensors of a file to those of a model, as far as their names tell how: by the user's rules,
/// without what wrapping modules add, by the layout of which they are, without a prefix. Returns them with a
/// line for everything that was done.
///
/// # Errors
/// If two tensors would have the same name, or tensors cannot be joined.
pub fn fit(tensors: TensorMap, expected: &Expected<'_>) -> Result<(TensorMap, Vec<String>), FormatError> {
    let mut notes = Vec::new();
    let mut renaming = Renaming::new(&tensors);
    let (count, unused) = renaming.rename(expected.rules)?;
    if count > 0 {
        notes.push(format!("{count} renamed by `rename`"));
    }
    for rule in unused {
        notes.push(format!("`rename` from `{}` fits no name", visible(rule.from.text())));
    }
    let wrappers = renaming.unwrap_modules(&expected.names);
    if !wrappers.is_empty() {
        let wrappers: Vec<_> = wrappers.iter().map(|word| format!("`{word}.`")).collect();
        notes.push(format!("names taken without {}", wrappers.join(", ")));
    }
    let mut best = Fit::of(renaming.clone(), expected);
    for layout in Layout::all() {
        let mut translated = renaming.clone();
        // A layout that gives two tensors one name is not that of the file.
        if let Ok(Some(count)) = layout.to_official(&mut translated) {
            let mut fit = Fit::of(translated, expected);
            if fit.fitting > best.fitting {
                fit.notes.insert(0, format!("{count} translated from the names of {}", layout.title));
                best = fit;
            }
        }
    }
    notes.extend(best.notes);
    Ok((best.renaming.apply(tensors)?, notes))
}

/// Names without the prefixes that a model does not have.
struct Fit {
    renaming: Renaming,
    /// Names that are expected.
    fitting: usize,
    notes: Vec<String>,
}

impl Fit {
    fn of(mut renaming: Renaming, expected: &Expected<'_>) -> Self {
        let mut notes = Vec::new();
        for _ in 0..MAX_PREFIXES {
            match prefixes(&renaming, expected).as_slice() {
                [] => break,
                [prefix] => {
                    let count = renaming.rename_free(|name| name.strip_prefix(prefix).map(str::to_owned));
                    notes.push(format!("{count} names taken without `{}`", visible(prefix)));
                }
                [first, second, ..] => {
                    notes.push(format!(
                        "names would fit without `{}`, and without `{}`: say with `entry` or `rename` which are meant",
                        visible(first),
                        visible(second),
                    ));
                    break;
                }
            }
        }
        let absent = absent(&renaming, expected);
        renaming.rename_free(|name| within(name, &absent, expected));
        let fitting = renaming.names().filter(|name| expected.names.contains(name)).count();
        Self { renaming, fitting, notes }
    }
}

/// What the names have to be taken without: the prefix that makes most names fit, or several that bring as many to
/// the same names. It must bring most of the names that begin with it to names of the model, or be that of most of the model:
/// that two names end alike says nothing.
fn prefixes(renaming: &Renaming, expected: &Expected<'_>) -> Vec<String> {
    let known: HashSet<&str> = renaming.names().collect();
    let absent = absent(renaming, expected);
    let fits = |name: &str| expected.names.contains(name) || within(name, &absent, expected).is_some();
    // Names that fit without a prefix, and all that begin with it.
    let mut counts: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for name in renaming.names().filter(|name| !fits(name)) {
        for (dot, _) in name.match_indices('.').take(MAX_WORDS) {
            let (prefix, rest) = name.split_at(dot + 1);
            let count = counts.entry(prefix).or_default();
            count.0 += usize::from(fits(rest) && !known.contains(rest));
            count.1 += 1;
        }
    }
    let is_much = |fitting: usize, of: usize| 2 * fitting > of;
    counts.retain(|_, (fitting, all)| is_much(*fitting, *all) || is_much(*fitting, expected.names.len()));
    let most = counts.values().map(|(fitting, _)| *fitting).max();
    let mut best: Vec<&str> = Vec::new();
    for (prefix, (fitting, _)) in &counts {
        // In order: a prefix of another one comes before it, and is preferred.
        if Some(*fitting) == most && !best.iter().any(|shorter| prefix.starts_with(shorter)) {
            best.push(prefix);
        }
    }
    // Of those that make as many fit, others than the first are in its way only for the same names.
    let fitting = |prefix: &str| -> HashSet<&str> {
        let rests = renaming.names().filter_map(|name| name.strip_prefix(prefix));
        rests.filter(|rest| fits(rest) && !known.contains(rest)).collect()
    };
    if let Some((first, others)) = best.split_first() {
        let of_first = fitting(first);
        let others = others.iter().filter(|other| !of_first.is_disjoint(&fitting(other)));
        best = std::iter::once(first).chain(others).copied().collect();
    }
    best.into_iter().map(str::to_owned).collect()
}

/// The prefixes of the model's parts with which no name begins.
fn absent<'a>(renaming: &Renaming, expected: &Expected<'a>) -> Vec<&'a str> {
    let is_absent = |prefix: &&str| {
        let begins = |name: &str| name.strip_prefix(*prefix).is_some_and(|rest| rest.starts_with('.'));
        !renaming.names().any(begins)
    };
    expected.prefixes.iter().copied().filter(is_absent).collect()
}

/// The name of a parameter in one of these parts of the model.
fn within(name: &str, parts: &[&str], expected: &Expected<'_>) -> Option<String> {
    let mut names = parts.iter().map(|part| format!("{part}.{name}"));
    names.find(|name| expected.names.contains(name.as_str()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
