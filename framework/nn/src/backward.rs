//! The backward pass.

use std::rc::Rc;

use super::backend::upload;
use super::error::{Error, Result};
use super::gradients::Gradients;
use super::profile;
use super::tape::Recorded;
use super::tensor::Tensor;

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
    let tape = loss.tape();
    let mut gradients = Gradients::new();
    gradients.add(loss.id(), upload(vec![1.0])?)?;
    drop(loss);
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
    Ok(gradients)
}
