//! Files that a dataset does not read.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::Serialize;

/// Extensions that are told apart; further ones are counted together.
const MOST: usize = 32;

/// How many files beside the samples a dataset passes over, by extension in lower case (`tif`); those without
/// extension under `none`, and where there are too many extensions the others under `other`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct PassedOver(BTreeMap<String, usize>);

impl PassedOver {
    /// Counts a file.
    pub fn add(&mut self, name: &Path) {
        let extension = name.extension().map(|extension| extension.to_string_lossy().to_lowercase());
        self.count(extension.unwrap_or_else(|| "none".to_owned()), 1);
    }

    fn count(&mut self, extension: String, count: usize) {
        let is_told = self.0.len() < MOST || self.0.contains_key(&extension);
        *self.0.entry(if is_told { extension } else { "other".to_owned() }).or_default() += count;
    }

    /// Counts what another one has counted.
    pub fn merge(&mut self, other: Self) {
        for (extension, count) in other.0 {
            self.count(extension, count);
        }
    }

    /// Extensions with their counts, sorted by extension.
    pub fn iter(&self) -> impl Iterator<Item = (&str, usize)> {
        self.0.iter().map(|(extension, count)| (extension.as_str(), *count))
    }

    /// Whether no file was passed over.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for PassedOver {
    /// The most frequent first: `12 .gif, 1 without extension`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut counts: Vec<_> = self.iter().collect();
        counts.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
        for (at, (extension, count)) in counts.into_iter().enumerate() {
            let separator = if at == 0 { "" } else { ", " };
            match extension {
                "other" => write!(f, "{separator}{count} others")?,
                "none" => write!(f, "{separator}{count} without extension")?,
                extension => write!(f, "{separator}{count} .{extension}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_counted_by_extension_in_any_case() {
        let mut passed_over = PassedOver::default();
        for name in ["a.gif", "Makefile", "b.GIF", "c.tar.gz"] {
            passed_over.add(Path::new(name));
        }
        let mut twice = passed_over.clone();
        twice.merge(passed_over.clone());
        assert_eq!(passed_over.to_string(), "2 .gif, 1 .gz, 1 without extension");
        assert_eq!(twice.iter().collect::<Vec<_>>(), [("gif", 4), ("gz", 2), ("none", 2)]);
        (0..99).for_each(|number| twice.add(Path::new(&format!("a.{number}"))));
        assert_eq!(
            (twice.iter().count(), twice.iter().find(|(extension, _)| *extension == "other")),
            (33, Some(("other", 70)))
        );
        assert!(PassedOver::default().is_empty() && PassedOver::default().to_string().is_empty());
    }
}
