//! The names of classes.

use std::path::{Path, PathBuf};

use convmae_framework::data::{DataError, composed};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The classes of a dataset, in the order of their indices.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Classes {
    /// How many there are; their names are their indices.
    Count(#[schemars(range(min = 1, max = 255))] usize),
    /// Their names.
    Names(Vec<String>),
    /// A text file with the name of one class a line.
    File(PathBuf),
}

impl Classes {
    /// Their names, composed (NFC).
    ///
    /// # Errors
    /// If the file cannot be read, or there is no class.
    pub fn names(&self) -> Result<Vec<String>, DataError> {
        let names = match self {
            Self::Count(count) => (0..*count).map(|class| class.to_string()).collect(),
            Self::Names(names) => names.iter().map(|name| composed(name)).collect(),
            Self::File(path) => read_names(path)?,
        };
        if names.is_empty() {
            let reason = "there is no class".to_owned();
            return Err(DataError::Invalid { path: "classes".into(), reason });
        }
        Ok(names)
    }
}

/// The lines of a text file that are not empty, composed (NFC).
///
/// # Errors
/// [`DataError::Io`] if it cannot be read.
pub fn read_names(path: &Path) -> Result<Vec<String>, DataError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| DataError::Io { path: path.to_owned(), source })?;
    Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(composed).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn names(yaml: serde_json::Value) -> Result<Vec<String>, DataError> {
        serde_json::from_value::<Classes>(yaml).unwrap().names()
    }

    #[test]
    fn classes_are_a_number_a_list_or_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("classes.txt");
        std::fs::write(&path, "cat\r\n\n E\u{301}pagneul \n").unwrap();
        assert_eq!(names(serde_json::json!(2)).unwrap(), ["0", "1"]);
        assert_eq!(names(serde_json::json!(["cat", "dog"])).unwrap(), ["cat", "dog"]);
        assert_eq!(names(serde_json::json!(path)).unwrap(), ["cat", "\u{c9}pagneul"]);
    }

    #[test]
    fn no_class_and_no_file_are_errors() {
        assert_eq!(names(serde_json::json!([])).unwrap_err().to_string(), "classes: there is no class");
        assert!(matches!(names(serde_json::json!("no/such.txt")), Err(DataError::Io { .. })));
    }
}
