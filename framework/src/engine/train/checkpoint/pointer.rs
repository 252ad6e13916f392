//! `last.json` and `best.json`: which checkpoint is meant.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Refusal;
use crate::weights::{WeightsError, atomic};

/// A checkpoint's file name and digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pointer {
    pub file: String,
    pub blake3: String,
}

impl Pointer {
    /// Reads a pointer; none if the file does not exist.
    pub fn read(path: &Path) -> Result<Option<Self>, Refusal> {
        let refuse = |reason: String| Refusal { path: path.to_path_buf(), reason };
        match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| refuse(error.to_string())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(refuse(error.to_string())),
        }
    }

    pub fn write(&self, path: &Path) -> Result<(), WeightsError> {
        atomic::write(path, |file| {
            serde_json::to_writer(&mut *file, self)?;
            file.write_all(b"\n")
        })
    }
}
