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
pub mod names;
mod parts;
mod pickle;
mod positions;
mod pth;
mod safetensors;
mod tensor;
mod text;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde_json::Value as Json;

pub use error::{FormatError, WeightsError};
pub use file::{OptimizerState, Selection, WeightsFile};
pub use keys::{KeyReport, ShapePair, match_keys};
pub use map::TensorMap;
pub use pickle::{Fault, PickleError};
pub use positions::interpolate_positions;
pub use pth::{PickledDict, read_pickled_dict, write_pth};
pub use safetensors::{Safetensors, check_safetensors, read_safetensors, write_safetensors, write_sealed};
pub use tensor::{DType, HostTensor, TensorError};
pub use text::visible;

/// The metadata key that marks a checkpoint of this program, whose tensors are named `model.*`,
/// `optimizer.*`, `ema.*`.
pub const CHECKPOINT_KEY: &str = "convmae.checkpoint";

/// The metadata key of the rest of a checkpoint's state, which only the program itself reads.
pub const STATE_KEY: &str = "convmae.state";

/// Reads the model in a weights file: safetensors, in one file or in parts (the index or the folder is named),
/// or PyTorch's `.pth` in its zip or legacy format, or a pickle with arrays of numpy. Of a checkpoint of this
/// program with moving averages these are the model: they are what training evaluates.
///
/// # Errors
/// If the file cannot be read, is truncated, altered, of an unknown format or hostile; never a partial
/// result.
pub fn read(path: &Path) -> Result<WeightsFile, WeightsError> {
    read_selection(path, Selection::default())
}

/// As [`read`], of an entry of the file that is named, or with the optimizer's state.
///
/// # Errors
/// As [`read`]; and if there is no such entry.
pub fn read_selection(path: &Path, selection: Selection<'_>) -> Result<WeightsFile, WeightsError> {
    if path.is_dir() {
        return read_selection(&parts::file_of_folder(path)?, selection);
    }
    match sniff(path)? {
        Format::Index => parts::read(path)?.within(selection.entry),
        Format::File(format) => return read_file(path, format, selection),
    }
    .map_err(|reason| WeightsError::format(path, reason))
}

/// A part of weights in several files.
fn read_part(path: &Path) -> Result<WeightsFile, WeightsError> {
    match sniff(path)? {
        Format::Index => {
            Err(WeightsError::format(path, FormatError::Index("a part of weights is an index, too".into())))
        }
        Format::File(format) => read_file(path, format, Selection::default()),
    }
}

fn read_file(path: &Path, format: FileFormat, selection: Selection<'_>) -> Result<WeightsFile, WeightsError> {
    match format {
        FileFormat::Zip => pth::read_zip(path, selection),
        FileFormat::Pickle => pth::read_pickle(path, selection),
        FileFormat::Safetensors => of_safetensors(read_safetensors(path)?, selection)
            .map_err(|reason| WeightsError::format(path, reason)),
    }
}

fn of_safetensors(file: Safetensors, selection: Selection<'_>) -> Result<WeightsFile, FormatError> {
    let is_checkpoint = file.metadata.contains_key(CHECKPOINT_KEY);
    let metadata = file.metadata.into_iter().filter(|(key, _)| key != STATE_KEY);
    let metadata = metadata.map(|(key, value)| (key, Json::String(value))).collect();
    if !is_checkpoint {
        return WeightsFile { metadata, ..WeightsFile::of(file.tensors) }.within(selection.entry);
    }
    let (model, rest) = file.tensors.split_prefix("model.");
    let (state, rest) = rest.split_prefix("optimizer.");
    let (ema, _) = rest.split_prefix("ema.");
    let optimizer = (selection.optimizer && !state.is_empty())
        .then_some(OptimizerState { tensors: state, param_groups: Json::Null });
    let (entry, others, tensors) = match (ema.is_empty(), selection.entry) {
        (true, _) => ("model", Vec::new(), model),
        (false, Some("model")) => ("model", vec!["ema".to_owned()], model),
        (false, _) => ("ema", vec!["model".to_owned()], ema),
    };
    let entry = Some(entry.to_owned());
    WeightsFile { entry, others, optimizer, metadata, ..WeightsFile::of(tensors) }.within(selection.entry)
}

enum Format {
    File(FileFormat),
    /// Of weights in several files.
    Index,
}

#[derive(Clone, Copy)]
enum FileFormat {
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
        [] => FormatError::Empty,
        [b'P', b'K', 3, 4, ..] => return Ok(Format::File(FileFormat::Zip)),
        // The header's length in eight bytes, then the header.
        [_, _, _, _, 0, 0, 0, 0, b'{', ..] => return Ok(Format::File(FileFormat::Safetensors)),
        [b'{', ..] => return Ok(Format::Index),
        [pickle::opcode::PROTO, 2..=5, ..] => return Ok(Format::File(FileFormat::Pickle)),
        [b'v', b'e', b'r', b's', b'i', b'o', b'n', b' ', b'h', b't', b't', b'p', ..] => {
            FormatError::LfsPointer
        }
        other => match String::from_utf8_lossy(other) {
            text if text.trim_start().starts_with('<') => FormatError::WebPage,
            _ if other.iter().all(|&byte| byte == 0) => {
                FormatError::Truncated("it starts with zeros; download it again".into())
            }
            text => FormatError::Unknown { start: text.into_owned() },
        },
    };
    Err(WeightsError::format(path, reason))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod fuzz;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
