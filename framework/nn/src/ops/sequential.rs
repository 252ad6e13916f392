//! Layers one after another.

use super::layer::{Layer, LayerBackward, Pass, apply};
use crate::backend::{Buffer, download};
use crate::error::Result;
use crate::tensor::Tensor;
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

    /// The output so far is recorded under this name, if someone asked for it ([`Context::record`]).
    #[must_use]
    pub fn record(self, name: &'static str, ctx: &Context) -> Self {
        if ctx.is_recording() { self.then(Record { name, ctx: ctx.clone() }) } else { self }
    }

    /// The output of the last layer.
    ///
    /// # Errors
    /// If the shapes do not fit, or the device fails.
    pub fn forward(self, x: Tensor, ctx: &Context) -> Result<Tensor> {
        if self.0.is_empty() { Ok(x) } else { apply(self, x, ctx) }
    }
}

impl Layer for Sequential {
    fn output_shape(&self, input: Shape) -> Result<Shape> {
        self.0.iter().try_fold(input, |shape, layer| layer.output_shape(shape))
    }

    fn may_train(&self) -> bool {
        self.0.iter().any(|layer| layer.may_train())
    }

    fn forward(
        self: Box<Self>,
        mut x: Buffer,
        mut shape: Shape,
        mut pass: Pass,
    ) -> Result<(Buffer, LayerBackward)> {
        let mut backwards = Vec::new();
        for layer in self.0 {
            let (output, may_train) = (layer.output_shape(shape)?, layer.may_train());
            // Before the first layer that is trained no backward is needed.
            let records = pass.records && (pass.wants_input || may_train);
            let (y, backward) = layer.forward(x, shape, Pass { records, ..pass })?;
            pass.wants_input |= may_train;
            if records {
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

/// Passes on what it records.
struct Record {
    name: &'static str,
    ctx: Context,
}

impl Layer for Record {
    fn output_shape(&self, input: Shape) -> Result<Shape> {
        Ok(input)
    }

    fn may_train(&self) -> bool {
        false
    }

    fn forward(self: Box<Self>, x: Buffer, shape: Shape, _: Pass) -> Result<(Buffer, LayerBackward)> {
        self.ctx.record_values(self.name, shape, download(&x)?);
        Ok((x, Box::new(|grad| Ok(Some(grad)))))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Gelu;
    use super::*;
    use crate::layers::{LayerNorm, Linear};
    use crate::random::{Purpose, stream};
    use crate::testing::{context, noise, run};
    use crate::{Scope, Tape};

    /// `[2, 3, 4]` to `[2, 3, 5]`.
    fn layers(scope: &Scope) -> (LayerNorm, Linear) {
        (LayerNorm::new(&scope.child("norm"), 4, 1e-6), Linear::new(&scope.child("fc"), 4, 5))
    }

    #[test]
    fn it_equals_its_layers_one_by_one() {
        let (scope, ctx) = (Scope::new(0), context(false));
        let (norm, fc) = layers(&scope);
        let params = scope.params();
        let params: Vec<_> = params.iter().collect();
        let nested =
            || Sequential::new().then(norm.clone()).then(Sequential::new().then(fc.clone()).then(Gelu));
        let own = run(&noise(1, 24), (2, 3, 4), &params, |x| nested().forward(x, &ctx));
        let single = run(&noise(1, 24), (2, 3, 4), &params, |x| {
            super::super::gelu(fc.forward(norm.forward(x, &ctx)?, &ctx)?)
        });
        assert_eq!(own, single);
    }

    #[test]
    fn without_layers_it_passes_its_input_and_its_gradient_on() {
        let own = run(&noise(1, 6), (2, 3), &[], |x| Sequential::new().forward(x, &context(false)));
        assert_eq!((own.values, &own.grads[0]), (noise(1, 6), &crate::testing::loss_weights(6)));
    }

    #[test]
    fn records_are_what_is_computed_up_to_there_and_only_where_someone_asks() {
        let (norm, fc) = layers(&Scope::new(0));
        let records = |ctx: Context| {
            let x = Tensor::from_vec(noise(1, 24), (2, 3, 4), &Tape::none()).unwrap();
            let layers = Sequential::new().then(norm.clone()).record("normalized", &ctx).then(fc.clone());
            layers.forward(x, &ctx).unwrap();
            ctx.into_records()
        };
        let ctx = || Context::eval(stream(Purpose::Evaluate, &[0]));
        assert!(records(ctx()).is_empty());
        let x = Tensor::from_vec(noise(1, 24), (2, 3, 4), &Tape::none()).unwrap();
        let expected = norm.forward(x, &ctx()).unwrap().to_vec().unwrap();
        assert_eq!(records(ctx().recording()), [("normalized".to_owned(), (vec![2, 3, 4], expected))]);
    }

    #[test]
    fn what_is_trained_behind_frozen_layers_gets_the_same_gradients() {
        let parts = |frozen: bool| {
            let scope = Scope::new(0);
            let first = if frozen { scope.freeze() } else { scope.clone() };
            let (norm, fc) = layers(&first);
            let last = Linear::new(&scope.child("last"), 5, 3);
            let ctx = Context::train(stream(Purpose::Step, &[0]));
            let x = Tensor::from_vec(noise(1, 24), (2, 3, 4), &Tape::none()).unwrap();
            let features = Sequential::new().then(norm).then(fc).then(Gelu).forward(x, &ctx).unwrap();
            assert_eq!(features.tape().is_recording(), !frozen);
            let y = Sequential::new().then(Gelu).then(last.clone()).forward(features, &ctx).unwrap();
            crate::backward::backward(crate::testing::loss(y)).unwrap();
            assert_eq!(scope.params()[0].grad().is_none(), frozen);
            let grad = last.weight.grad().unwrap();
            download(&grad).unwrap()
        };
        assert_eq!(parts(true), parts(false));
    }

    #[test]
    fn layers_that_do_not_fit_each_other_are_refused() {
        let (norm, fc) = layers(&Scope::new(0));
        let x = Tensor::from_vec(noise(1, 24), (2, 3, 4), &Tape::none()).unwrap();
        assert!(Sequential::new().then(fc).then(norm).forward(x, &context(false)).is_err());
    }
}
