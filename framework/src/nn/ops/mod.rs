//! Operations: kernels (on CPU) or compositions of dfdx operations (on CUDA), on the tape.

pub mod batch_norm;
pub mod conv2d;
pub mod depthwise;
pub mod loss;
pub mod patches;
mod rows;
pub mod tokens;

use dfdx::shapes::{HasShape as _, Shape};
use dfdx::tensor::{PutTape as _, SplitTape as _, Tape as _, TensorFromVec as _};
use dfdx::tensor_ops::ReshapeTo as _;

use super::tensor::{Error, Result, T1, Tensor, device, to_vec};

/// The backward of an operation: from the gradient of its output to the gradients of its inputs, in their order.
pub type Backward = Box<dyn FnOnce(&[f32]) -> Vec<Vec<f32>>>;

/// Puts a kernel on the tape.
///
/// `forward` gets the values of the inputs and whether a backward will follow; it returns the output's values, and the
/// backward with what that needs. Gradients of [`super::Param`]s are not inputs: the backward adds them itself
/// ([`super::Param::accumulate_grad`]). The output's gradient is freed once the backward ran: every later user has run by then.
pub fn operation<S: Shape>(
    inputs: Vec<T1>,
    shape: S,
    forward: impl FnOnce(Vec<Vec<f32>>, bool) -> Result<(Vec<f32>, Option<Backward>)>,
) -> Result<Tensor<S>> {
    let mut tape = inputs.first().map(|input| input.clone().split_tape().1).unwrap_or_default();
    let values = inputs.iter().map(to_vec).collect::<Result<_>>()?;
    let (values, backward) = forward(values, tape.is_recording())?;
    if values.len() != shape.num_elements() {
        return Err(Error::Shape(format!("{} values do not fill the shape {shape:?}", values.len())));
    }
    let output = device().try_tensor_from_vec(values, shape)?;
    if let (true, Some(backward)) = (tape.is_recording(), backward) {
        let ghosts: Vec<_> = inputs.into_iter().map(|input| input.split_tape().0.ghost()).collect();
        let ghost = output.ghost();
        tape.add_backward_op(move |grads| {
            let grad_output = std::mem::take(&mut **grads.get_or_alloc_mut(&ghost)?);
            for (ghost, grad) in ghosts.iter().zip(backward(&grad_output)) {
                for (sum, grad) in grads.get_or_alloc_mut(ghost)?.iter_mut().zip(&grad) {
                    *sum += grad;
                }
            }
            Ok(())
        });
    }
    Ok(output.put_tape(tape))
}

/// The same tensor as a flat one: input of [`operation`].
pub fn flat<S: Shape>(tensor: Tensor<S>) -> Result<T1> {
    let numel = tensor.shape().num_elements();
    Ok(tensor.try_reshape_like(&(numel,))?)
}
