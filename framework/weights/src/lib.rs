//! Weights files: safetensors and PyTorch checkpoints.
//!
//! [`read`] takes either, told apart by content. PyTorch files are never executed: the pickle in them is read
//! by a machine that knows plain values and tensors only.

// PyTorch and ConvMAE are names, not code.
#![allow(clippy::doc_markdown)]

pub mod atomic;
mod error;
mod faults;
mod file;
mod keys;
mod map;
mod pickle;
mod positions;
mod pth;
mod safetensors;
mod tensor;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde_json::Value as Json;

pub use error::{FormatError, WeightsError};
pub use file::{OptimizerState, WeightsFile};
pub use keys::{KeyReport, ShapePair, match_keys};
pub use map::TensorMap;
pub use pickle::{Fault, PickleError};
pub use positions::interpolate_positions;
pub use pth::write_pth;
pub use safetensors::{Safetensors, check_safetensors, read_safetensors, write_safetensors, write_sealed};
pub use tensor::{DType, HostTensor, TensorError};

use file::Part;

/// The metadata key that marks a checkpoint of this program, whose tensors are named `model.*`,
/// `optimizer.*`, `ema.*`.
pub const CHECKPOINT_KEY: &str = "convmae.checkpoint";

/// The metadata key of the rest of a checkpoint's state, which only the program itself reads.
pub const STATE_KEY: &str = "convmae.state";

/// Reads the model in a weights file: safetensors, or PyTorch's `.pth` in its zip or legacy format.
///
/// # Errors
/// If the file cannot be read, is truncated, altered, of an unknown format or hostile; never a partial
/// result.
pub fn read(path: &Path) -> Result<WeightsFile, WeightsError> {
    read_part(path, Part::Model)
}

/// As [`read`], with the optimizer's state.
///
/// # Errors
/// As [`read`].
pub fn read_with_optimizer(path: &Path) -> Result<WeightsFile, WeightsError> {
    read_part(path, Part::All)
}

fn read_part(path: &Path, part: Part) -> Result<WeightsFile, WeightsError> {
    match sniff(path)? {
        Format::Zip => pth::read_zip(path, part),
        Format::Pickle => pth::read_legacy(path, part),
        Format::Safetensors => read_safetensors(path).map(|file| from_safetensors(file, part)),
    }
}

fn from_safetensors(file: Safetensors, part: Part) -> WeightsFile {
    let is_checkpoint = file.metadata.contains_key(CHECKPOINT_KEY);
    let metadata = file.metadata.into_iter().filter(|(key, _)| key != STATE_KEY);
    let metadata = metadata.map(|(key, value)| (key, Json::String(value))).collect();
    if !is_checkpoint {
        return WeightsFile { tensors: file.tensors, ema: None, optimizer: None, metadata };
    }
    let (tensors, rest) = file.tensors.split_prefix("model.");
    let (state, rest) = rest.split_prefix("optimizer.");
    let (ema, _) = rest.split_prefix("ema.");
    let ema = (!ema.is_empty()).then_some(ema);
    let optimizer = (part == Part::All && !state.is_empty())
        .then_some(OptimizerState { tensors: state, param_groups: Json::Null });
    WeightsFile { tensors, ema, optimizer, metadata }
}

enum Format {
    Safetensors,
    Zip,
    Pickle,
}

/// Bytes that tell the formats apart.
const START: u64 = 16;

fn sniff(path: &Path) -> Result<Format, WeightsError> {
    let mut start = Vec::new();
    File::open(path)
        .map_err(WeightsError::io("open", path))?
        .take(START)
        .read_to_end(&mut start)
        .map_err(WeightsError::io("read", path))?;
    let reason = match start.as_slice() {
        [b'P', b'K', 3, 4, ..] => return Ok(Format::Zip),
        // The header's length in eight bytes, then the header.
        [_, _, _, _, _, _, _, _, b'{', ..] => return Ok(Format::Safetensors),
        [pickle::opcode::PROTO, 2..=5, ..] => return Ok(Format::Pickle),
        [b'v', b'e', b'r', b's', b'i', b'o', b'n', b' ', b'h', b't', b't', b'p', ..] => {
            FormatError::LfsPointer
        }
        other => FormatError::Unknown { start: String::from_utf8_lossy(other).into_owned() },
    };
    Err(WeightsError::format(path, reason))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
