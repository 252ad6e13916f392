//! The names that other libraries give to the same tensors. Each layout is a file of `layouts/`.

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use serde::Deserialize;

use super::pattern::{Found, Pattern};
use super::renaming::{Entry, Renaming, Source};
use crate::error::FormatError;

/// The files, by the names that `convmae convert --layout` takes.
const FILES: [(&str, &str); 3] = [
    ("hf-vitmae", include_str!("../../layouts/hf-vitmae.yaml")),
    ("mmpretrain", include_str!("../../layouts/mmpretrain.yaml")),
    ("timm", include_str!("../../layouts/timm.yaml")),
];

/// The names of another library, and which of the official ones they stand for.
#[derive(Debug)]
pub struct Layout {
    /// What `convmae convert --layout` calls it.
    pub name: &'static str,
    /// Whose names they are, for messages.
    pub title: String,
    /// The module that is also saved by itself: its names may come without this word before them.
    trunk: Option<String>,
    /// A name that a file of this layout has.
    mark: Pattern,
    names: Vec<Pair>,
    /// Whether names that are not listed are the official ones, and not unknown.
    others_are_official: bool,
}

/// An official name, and the other library's: several, if their tensors are joined along the first axis.
#[derive(Debug)]
struct Pair {
    official: Pattern,
    others: Vec<Pattern>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    title: String,
    #[serde(default)]
    trunk: Option<String>,
    mark: String,
    #[serde(default)]
    others_are_official: bool,
    /// Official names and the other library's.
    names: BTreeMap<String, OneOrMany>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

static LAYOUTS: LazyLock<Vec<Layout>> =
    LazyLock::new(|| FILES.iter().filter_map(|(name, text)| Layout::parse(name, text)).collect());

/// Words that may stand before the names of a layout.
const MAX_WORDS: usize = 16;

/// What stands before the names of a layout in a file.
struct Lead {
    before: String,
    /// The word of the trunk that they lack.
    trunk: String,
}

impl Layout {
    /// All layouts.
    pub fn all() -> &'static [Self] {
        &LAYOUTS
    }

    /// The layout of that name.
    pub fn find(name: &str) -> Option<&'static Self> {
        Self::all().iter().find(|layout| layout.name == name)
    }

    fn parse(name: &'static str, text: &str) -> Option<Self> {
        let File { title, trunk, mark, others_are_official, names } = serde_yaml::from_str(text).ok()?;
        let pair = |(official, others): (String, OneOrMany)| {
            let others = match others {
                OneOrMany::One(other) => vec![other],
                OneOrMany::Many(others) => others,
            };
            let others = others.iter().map(|other| Pattern::new(other)).collect::<Option<_>>()?;
            Some(Pair { official: Pattern::new(&official)?, others })
        };
        let names = names.into_iter().map(pair).collect::<Option<_>>()?;
        Some(Self { name, title, trunk, mark: Pattern::new(&mark)?, names, others_are_official })
    }

    /// Gives names of this layout the official ones, and takes off what stands before them; returns how many
    /// tensors that makes. `None` if the names are of no such layout.
    ///
    /// # Errors
    /// If two tensors would have the same name.
    pub fn to_official(&self, renaming: &mut Renaming) -> Result<Option<usize>, FormatError> {
        let Some(lead) = self.lead(renaming) else { return Ok(None) };
        // The tensors that each official name is made of, as far as they are there.
        let mut made: BTreeMap<String, Vec<Option<usize>>> = BTreeMap::new();
        for entry in renaming.entries() {
            if let (Source::Whole(at), Some((name, part, parts))) =
                (&entry.source, self.official(&lead, &entry.name))
                && let Some(slot) = made.entry(name).or_insert_with(|| vec![None; parts]).get_mut(part)
            {
                slot.get_or_insert(*at);
            }
        }
        let mut count = 0;
        // What is in the place of each tensor: nothing, if it is joined to another one.
        let mut replaced: HashMap<usize, Option<Entry>> = HashMap::new();
        for (name, parts) in made {
            // If a part is missing, the others stay as they are.
            let Some(parts) = parts.into_iter().collect::<Option<Vec<usize>>>() else { continue };
            count += 1;
            replaced.extend(parts.iter().map(|&part| (part, None)));
            let first = parts.iter().copied().min().unwrap_or_default();
            let source = match parts.as_slice() {
                &[only] => Source::Whole(only),
                _ => Source::Joined(parts),
            };
            replaced.insert(first, Some(Entry { name, source }));
        }
        let in_place = |entry: &Entry| match &entry.source {
            Source::Whole(at) => replaced.remove(at).unwrap_or_else(|| Some(entry.clone())),
            _ => Some(entry.clone()),
        };
        let entries = renaming.entries().iter().filter_map(in_place).collect();
        renaming.replace(entries)?;
        Ok(Some(count))
    }

    /// Gives official names those of this layout; returns how many tensors that makes. `None` if no name is
    /// known.
    ///
    /// # Errors
    /// If two tensors would have the same name.
    pub fn of_official(&self, renaming: &mut Renaming) -> Result<Option<usize>, FormatError> {
        let mut count = 0;
        let mut entries = Vec::new();
        for entry in renaming.entries() {
            let found = best(self.names.iter().map(|pair| (pair, &pair.official)), &entry.name);
            match (found, &entry.source) {
                (Some((Pair { others, .. }, found)), Source::Whole(of)) => {
                    count += others.len();
                    let source = |part| match others.len() {
                        1 => Source::Whole(*of),
                        parts => Source::Part { of: *of, part, parts },
                    };
                    let named = others.iter().map(|other| other.fill(&found)).enumerate();
                    entries.extend(named.map(|(part, name)| Entry { name, source: source(part) }));
                }
                _ => entries.push(entry.clone()),
            }
        }
        renaming.replace(entries)?;
        Ok((count > 0).then_some(count))
    }

    /// The official names for which this layout has none.
    pub fn unnamed<'n>(&self, official: impl Iterator<Item = &'n str>) -> Vec<&'n str> {
        let is_known = |name: &str| self.names.iter().any(|pair| pair.official.find(name).is_some());
        official.filter(|name| !self.others_are_official && !is_known(name)).collect()
    }

    /// What stands before the names of this layout, if they are there.
    fn lead(&self, renaming: &Renaming) -> Option<Lead> {
        let trunk = self.trunk.as_ref().map(|trunk| format!("{trunk}."));
        let lead_of = |name: &str| {
            let starts = std::iter::once(0).chain(name.match_indices('.').map(|(at, _)| at + 1));
            starts.take(MAX_WORDS).find_map(|start| {
                let (before, rest) = name.split_at(start);
                let lead = |trunk: &str| Lead { before: before.to_owned(), trunk: trunk.to_owned() };
                if self.mark.find(rest).is_some() {
                    return Some(lead(""));
                }
                let trunk = trunk.as_deref()?;
                self.mark.find(&format!("{trunk}{rest}")).map(|_| lead(trunk))
            })
        };
        renaming.names().find_map(lead_of)
    }

    /// The official name that one of this layout stands for, which part of that tensor it is, of how many.
    fn official(&self, lead: &Lead, name: &str) -> Option<(String, usize, usize)> {
        let name = format!("{}{}", lead.trunk, name.strip_prefix(lead.before.as_str())?);
        let others = self
            .names
            .iter()
            .flat_map(|pair| pair.others.iter().enumerate().map(move |(part, other)| ((pair, part), other)));
        let ((pair, part), found) = best(others, &name)?;
        Some((pair.official.fill(&found), part, pair.others.len()))
    }
}

/// Of the patterns that fit a name the most special one.
fn best<'n, 'p, T>(
    patterns: impl Iterator<Item = (T, &'p Pattern)>,
    name: &'n str,
) -> Option<(T, Found<'n>)> {
    patterns
        .filter_map(|(what, pattern)| Some((what, pattern.literal(), pattern.find(name)?)))
        .max_by_key(|(_, literal, _)| *literal)
        .map(|(what, _, found)| (what, found))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
