//! Layers on values, which are put together to one operation on the tape.

use super::operation::operation_on;
use crate::backend::Buffer;
use crate::error::Result;
use crate::tensor::Tensor;
use crate::{Context, Shape, Tape};

/// A differentiable function of one input, with the parameters it holds.
///
/// Layers one after another ([`super::Sequential`]) are a single operation on the tape: nothing is copied between them, and no gradient of
/// an intermediate result stays behind.
pub trait Layer: 'static {
    /// The shape of the output for an input of that shape.
    ///
    /// # Errors
    /// If the input or a parameter does not fit.
    fn output_shape(&self, input: Shape) -> Result<Shape>;

    /// Whether it may have parameters to train, so that a backward has to reach it.
    fn may_train(&self) -> bool {
        true
    }

    /// The output, and the backward with what it needs. The input has the shape that [`Layer::output_shape`] accepted.
    ///
    /// # Errors
    /// If the device fails.
    fn forward(self: Box<Self>, x: Buffer, shape: Shape, pass: Pass) -> Result<(Buffer, LayerBackward)>;
}

/// From the gradient of a layer's output to that of its input, or to none where [`Pass::wants_input`] says that nobody asks for it. The
/// gradients of parameters are added to them ([`crate::Param::accumulate_grad`]). It owns clones of these parameters: what nobody holds any
/// more for a backward is taken for complete ([`crate::completion`]).
pub type LayerBackward = Box<dyn FnOnce(Buffer) -> Result<Option<Buffer>>>;

/// The circumstances of a [`Layer::forward`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Pass {
    /// Whether batch normalisation uses the statistics of the batch.
    pub training: bool,
    /// Whether a backward will follow. Otherwise the layer's is dropped at once, with all that it keeps.
    pub records: bool,
    /// Whether blocks keep their inputs alone and compute the rest again in the backward (activation checkpointing).
    pub checkpoint_activations: bool,
    /// Whether the backward has to return the gradient of the input.
    pub wants_input: bool,
}

/// `layer` of `x`. The gradients of its parameters are recorded on the tape of `ctx`, also where `x` is a constant.
///
/// # Errors
/// If the shapes do not fit, or the device fails.
pub fn apply(layer: impl Layer, x: Tensor, ctx: &Context) -> Result<Tensor> {
    let Context { training, checkpoint_activations, .. } = *ctx;
    put_on_tape(layer, x, &ctx.tape, Pass { training, checkpoint_activations, ..Pass::default() })
}

/// [`apply`] for a layer without parameters, which is recorded where `x` is.
pub(super) fn apply_constant(layer: impl Layer, x: Tensor) -> Result<Tensor> {
    put_on_tape(layer, x, &Tape::none(), Pass::default())
}

fn put_on_tape(layer: impl Layer, x: Tensor, tape: &Tape, pass: Pass) -> Result<Tensor> {
    let (input, layer) = (x.shape(), Box::new(layer));
    let output = layer.output_shape(input)?;
    let wants_input = x.tape().is_recording();
    // Nothing is asked of a backward, as in front of all that is trained.
    let tape = if wants_input || layer.may_train() { tape } else { &Tape::none() };
    operation_on(tape, vec![x], output, move |mut inputs, records| {
        let pass = Pass { records, wants_input, ..pass };
        let (y, backward) = layer.forward(inputs.swap_remove(0), input, pass)?;
        let backward = move |grad| Ok(vec![backward(grad)?]);
        Ok((y, records.then(|| Box::new(backward) as _)))
    })
}
