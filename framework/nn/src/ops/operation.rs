//! How a kernel gets on the tape.

use dfdx::tensor::Merge as _;

use crate::backend::Buffer;
use crate::error::Result;
use crate::tensor::Tensor;
use crate::{Shape, Tape, profile};

/// The backward of an operation: from the gradient of its output to the gradients of its inputs, in their order; none where
/// it is zero, or nobody asks for it.
pub type Backward = Box<dyn FnOnce(Buffer) -> Result<Vec<Option<Buffer>>>>;

/// Puts a kernel on the tape of its inputs.
///
/// `forward` gets the values of the inputs and whether a backward will follow; it returns the output's values, and the
/// backward with what that needs. Gradients of [`crate::Param`]s are not inputs: the backward adds them itself
/// ([`crate::Param::accumulate_grad`]). The output's gradient is freed once the backward ran: every later user has
/// run by then.
pub fn operation(
    inputs: Vec<Tensor>,
    shape: impl Into<Shape>,
    forward: impl FnOnce(Vec<Buffer>, bool) -> Result<(Buffer, Option<Backward>)>,
) -> Result<Tensor> {
    operation_on(&Tape::none(), inputs, shape, forward)
}

/// [`operation`] on a given tape, too: for those with parameters, which need a backward even where all inputs are constants.
pub(super) fn operation_on(
    tape: &Tape,
    inputs: Vec<Tensor>,
    shape: impl Into<Shape>,
    forward: impl FnOnce(Vec<Buffer>, bool) -> Result<(Buffer, Option<Backward>)>,
) -> Result<Tensor> {
    let shape = shape.into();
    let tapes = inputs.iter().map(Tensor::tape);
    let tape = tapes.fold(tape.clone(), Tape::merge);
    // An input that is on no tape is a constant: nobody asks for its gradient.
    let ids: Vec<_> = inputs.iter().map(|input| input.tape().is_recording().then(|| input.id())).collect();
    let span = profile::kernel("copy");
    let values = inputs.into_iter().map(Tensor::into_buffer).collect::<Result<_>>()?;
    drop(span);
    let (values, backward) = forward(values, tape.is_recording())?;
    let output = Tensor::from_buffer(values, shape)?;
    if let (true, Some(backward)) = (tape.is_recording(), backward) {
        let (id, len) = (output.id(), output.numel());
        tape.record(move |grads| {
            let grad_output = grads.take(id, len)?;
            for (id, grad) in ids.into_iter().zip(backward(grad_output)?) {
                if let (Some(id), Some(grad)) = (id, grad) {
                    let _span = profile::kernel("add gradient");
                    grads.add(id, grad)?;
                }
            }
            Ok(())
        });
    }
    Ok(output.on(tape))
}
