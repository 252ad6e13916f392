//! Parameters from a weights file.

use std::path::Path;

use crate::nn::Param;
use crate::weights::{self, KeyReport, match_keys};

use super::EngineError;

/// Loads a weights file into parameters. Every name must be in both, with the same shape.
pub fn load_weights(params: &[Param], path: &Path) -> Result<KeyReport, EngineError> {
    let tensors = weights::read(path)?.tensors;
    let expected: Vec<_> =
        params.iter().map(|param| (param.name().to_owned(), param.shape().to_vec())).collect();
    let report = match_keys(&expected, &tensors);
    if !report.is_exact() {
        return Err(EngineError::WeightsMismatch { path: path.to_path_buf(), report: Box::new(report) });
    }
    for param in params {
        if let Some(tensor) = tensors.get(param.name()) {
            param.set(&tensor.to_f32())?;
        }
    }
    Ok(report)
}
