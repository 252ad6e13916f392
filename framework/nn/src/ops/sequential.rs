//! Layers one after another.

use super::layer::{Layer, LayerBackward, Pass, apply, apply_to_values};
use crate::backend::Buffer;
use crate::tensor::{Result, Tensor};
use crate::{Context, Shape};

/// Layers one after another, as one [`Layer`]: a stage of a network is one operation on the tape.
///
/// ```
/// use convmae_nn::layers::{LayerNorm, Linear};
/// use convmae_nn::ops::{Gelu, Sequential};
/// use convmae_nn::random::{Purpose, stream};
/// use convmae_nn::{Context, Scope, Tensor};
///
/// let (scope, ctx) = (Scope::new(0), Context::eval(stream(Purpose::Evaluate, &[0])));
/// let mlp = Sequential::new()
///     .then(LayerNorm::new(&scope.child("norm"), 4, 1e-6))
///     .then(Linear::new(&scope.child("fc1"), 4, 8))
///     .then(Gelu)
///     .then(Linear::new(&scope.child("fc2"), 8, 4));
/// let x = Tensor::from_vec(vec![1.0; 2 * 3 * 4], (2, 3, 4), &ctx.tape)?;
/// // A row without variance is normalised to zeros, and the biases are zeros at first.
/// assert_eq!(mlp.forward(x, &ctx)?.to_vec()?, [0.0; 24]);
/// # Ok::<(), convmae_nn::Error>(())
/// ```
#[derive(Default)]
pub struct Sequential(Vec<Box<dyn Layer>>);

impl Sequential {
    /// Without layers: the output is the input.
    pub fn new() -> Self {
        Self::default()
    }

    /// With one more layer behind the others.
    #[must_use]
    pub fn then(mut self, layer: impl Layer) -> Self {
        self.0.push(Box::new(layer));
        self
    }

    /// With more layers behind the others.
    #[must_use]
    pub fn then_all<L: Layer>(self, layers: impl IntoIterator<Item = L>) -> Self {
        layers.into_iter().fold(self, Self::then)
    }

    /// The output of the last layer.
    ///
    /// # Errors
    /// If the shapes do not fit, or the device fails.
    pub fn forward(self, x: Tensor, ctx: &Context) -> Result<Tensor> {
        if self.0.is_empty() { Ok(x) } else { apply(self, x, ctx) }
    }

    /// [`Sequential::forward`] of plain values that need no gradient.
    ///
    /// # Errors
    /// If the shapes do not fit, or the device fails.
    pub fn forward_values(
        self,
        values: Vec<f32>,
        shape: impl Into<Shape>,
        ctx: &Context,
    ) -> Result<Tensor> {
        apply_to_values(self, values, shape, ctx)
    }
}

impl Layer for Sequential {
    fn output_shape(&self, input: Shape) -> Result<Shape> {
        self.0.iter().try_fold(input, |shape, layer| layer.output_shape(shape))
    }

    fn forward(self: Box<Self>, mut x: Buffer, mut shape: Shape, pass: Pass) -> Result<(Buffer, LayerBackward)> {
        let mut backwards = Vec::new();
        for (index, layer) in self.0.into_iter().enumerate() {
            let output = layer.output_shape(shape)?;
            let pass = Pass { wants_input: pass.wants_input || index > 0, ..pass };
            let (y, backward) = layer.forward(x, shape, pass)?;
            if pass.records {
                backwards.push(backward);
            }
            (x, shape) = (y, output);
        }
        let backward = move |grad: Buffer| {
            let mut grad = Some(grad);
            // Popped one by one: what a layer kept is freed as soon as its backward ran.
            while let Some(backward) = backwards.pop() {
                let Some(own) = grad else { break };
                grad = backward(own)?;
            }
            Ok(grad)
        };
        Ok((x, Box::new(backward)))
    }
}
