//! The gradients of tensors, while a backward runs and after it.

use std::cell::Cell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::backend::elementwise::add_assign;
use super::backend::{Buffer, download, single, zeros};
use super::device::Device;
use super::error::Result;
use super::tensor::Tensor;

/// The gradients of tensors of dfdx.
pub(crate) type DfdxGradients = dfdx::tensor::Gradients<f32, Device>;

/// What a gradient belongs to: a tensor with its clones, whatever their shapes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct TensorId(u64);

impl TensorId {
    /// One that no other tensor of this thread has.
    pub fn new() -> Self {
        thread_local! {
            static NEXT: Cell<u64> = const { Cell::new(0) };
        }
        let id = NEXT.get();
        NEXT.set(id + 1);
        Self(id)
    }
}

/// The gradients of tensors that are no parameters. One that an operation takes is gone.
pub struct Gradients {
    own: HashMap<TensorId, Buffer>,
    /// Of the tensors within operations that are composed of dfdx's.
    pub(crate) dfdx: DfdxGradients,
}

impl Gradients {
    pub(crate) fn new() -> Self {
        Self { own: HashMap::new(), dfdx: DfdxGradients::leaky() }
    }

    /// Adds to the gradient of a tensor.
    pub(crate) fn add(&mut self, id: TensorId, grad: Buffer) -> Result<()> {
        let grad = single(grad)?;
        match self.own.entry(id) {
            Entry::Occupied(mut sum) => add_assign(sum.get_mut(), &grad),
            Entry::Vacant(first) => {
                first.insert(grad);
                Ok(())
            }
        }
    }

    /// Takes the gradient of a tensor of `len` values: zeros where the loss does not depend on it.
    pub(crate) fn take(&mut self, id: TensorId, len: usize) -> Result<Buffer> {
        self.own.remove(&id).map_or_else(|| zeros(len), Ok)
    }

    /// The gradient of a tensor that no operation computed, in row-major order; zeros where the loss does not depend on it.
    ///
    /// # Errors
    /// If the device fails.
    pub fn of(&self, x: &Tensor) -> Result<Vec<f32>> {
        self.own.get(&x.id()).map_or_else(|| Ok(vec![0.0; x.numel()]), |grad| download(grad))
    }
}
