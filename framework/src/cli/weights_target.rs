//! Weights files that commands write.

use std::collections::BTreeMap;
use std::path::Path;

use super::output::CliError;
use crate::weights::{TensorMap, WeightsError, write_pth, write_safetensors};

/// A weights file to write, in a format that its name tells.
#[derive(Debug, Clone, Copy)]
pub enum WeightsTarget<'a> {
    /// `.safetensors`.
    Safetensors(&'a Path),
    /// `.pth` or `.pt`.
    Pth(&'a Path),
}

impl<'a> WeightsTarget<'a> {
    /// The file of that name; `None` if its extension names no format.
    pub fn of(path: &'a Path) -> Option<Self> {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("safetensors") => Some(Self::Safetensors(path)),
            Some("pth" | "pt") => Some(Self::Pth(path)),
            _ => None,
        }
    }

    /// [`WeightsTarget::of`] an argument.
    ///
    /// # Errors
    /// If the extension names no format.
    pub fn named(path: &'a Path) -> Result<Self, CliError> {
        Self::of(path).ok_or_else(|| CliError::Usage {
            message: format!("{}: the extension names no format", path.display()),
            help: Some("use .safetensors or .pth".to_owned()),
        })
    }

    /// Writes it. In safetensors `metadata` stands beside the mark that PyTorch tools look for.
    pub fn write(self, tensors: &TensorMap, metadata: BTreeMap<String, String>) -> Result<(), WeightsError> {
        match self {
            Self::Safetensors(path) => {
                let mark = ("format".to_owned(), "pt".to_owned());
                write_safetensors(path, tensors, &metadata.into_iter().chain([mark]).collect())
            }
            Self::Pth(path) => write_pth(path, tensors),
        }
    }
}
