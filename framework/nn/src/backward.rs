//! The backward pass.

use std::rc::Rc;

use dfdx::tensor::{SplitTape as _, Trace as _};
use dfdx::tensor_ops::Backward as _;

use super::error::{Error, Result};
use super::profile;
use super::tape::{DeviceGradients, Recorded};
use super::tensor::Tensor;

/// The gradients of tensors that are no parameters.
pub struct Gradients(DeviceGradients);

impl Gradients {
    /// The gradient of a tensor that no operation computed, in row-major order; zeros where the loss does not depend on it.
    ///
    /// # Errors
    /// If the device has no memory for it.
    pub fn of(&mut self, x: &Tensor) -> Result<Vec<f32>> {
        let flat = x.clone().into_flat().split_tape().0;
        self.0.try_alloc_for(&flat)?;
        Ok(self.0.get(&flat).as_vec())
    }
}

/// Runs the recorded operations from the loss back to the parameters.
///
/// Gradients of parameters are added to [`super::Param`]s (call [`super::Param::clear_grad`] before the first micro-batch of a
/// step). The gradients of other tensors are returned; those of intermediate results are consumed on the way.
///
/// # Errors
/// If the loss is not a single value, or the device fails.
pub fn backward(loss: Tensor) -> Result<Gradients> {
    if loss.numel() != 1 {
        return Err(Error::Shape(format!("a loss is a single value, not {:?}", loss.dims())));
    }
    let (loss, tape) = loss.typed(())?.split_tape();
    let mut gradients = loss.leaky_traced().try_backward()?;
    // Popped one by one: what an operation kept for its backward is freed as soon as it ran.
    let mut span: Option<(Rc<str>, profile::Span)> = None;
    while let Some(Recorded { backward, node }) = tape.pop() {
        // One span for the operations of a node: where it begins and ends, the device is waited for.
        if span.as_ref().map(|(name, _)| name) != node.as_ref() {
            drop(span.take());
            span = node.map(|name| (Rc::clone(&name), profile::node(&name)));
        }
        backward(&mut gradients)?;
    }
    Ok(Gradients(gradients))
}
