//! A pickle reader that executes nothing.
//!
//! PyTorch checkpoints are Python pickles: programs for a small stack machine that may import and call
//! anything. This reader knows the opcodes that checkpoints are written with, and a short list of
//! [globals](globals::Global), which it interprets itself: those of tensors, of numpy's arrays and of plain
//! containers. What any other class or function would make is an [object](Value::Object) of which only the
//! class is known; a pickle that would run programs or code is refused by name. Work and memory are bounded by
//! [limits](limits), whatever the input.

mod arena;
mod calls;
mod error;
mod globals;
mod input;
mod limits;
mod machine;
mod numpy;
pub(super) mod opcode;
mod value;

pub use error::{Fault, PickleError};
pub(super) use globals::Global;
pub(super) use machine::Loaded;
pub(super) use value::{Array, Entries, StorageRef, TensorRef, Value};

/// Reads the pickle at the start of `bytes`.
pub(super) fn load(bytes: &[u8]) -> Result<Loaded, PickleError> {
    machine::Machine::new(bytes).run()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
