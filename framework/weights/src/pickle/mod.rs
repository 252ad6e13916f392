//! A pickle reader that executes nothing.
//!
//! PyTorch checkpoints are Python pickles: programs for a small stack machine that may import and call anything. This
//! reader knows the opcodes that state dicts, optimizer states and argument namespaces are written with, and a short
//! list of [globals](globals::Global), which it interprets itself; everything else is refused by name. Work and memory
//! are bounded by the limits below, whatever the input.

mod arena;
mod calls;
mod error;
mod globals;
mod input;
mod machine;
pub(super) mod opcode;
mod value;

pub use error::{Fault, PickleError};
pub(super) use globals::Global;
pub(super) use value::{StorageRef, TensorRef, Value};

/// Values in one pickle; a full ConvMAE checkpoint has about 20 000.
const MAX_VALUES: usize = 1 << 20;
/// Nesting of containers.
const MAX_DEPTH: usize = 64;
/// Axes of a tensor.
const MAX_AXES: usize = 16;
/// Bytes of a storage's key, a small number in decimal.
const MAX_KEY: usize = 64;

/// What one pickle holds.
#[derive(Debug)]
pub(super) struct Loaded {
    /// The value on top of the stack at the end.
    pub value: Value,
    /// Every storage it mentions, once, in order of first mention.
    pub storages: Vec<StorageRef>,
    /// Bytes consumed, the final `STOP` included.
    pub consumed: usize,
}

/// Reads the pickle at the start of `bytes`.
pub(super) fn load(bytes: &[u8]) -> Result<Loaded, PickleError> {
    machine::Machine::new(bytes).run()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
