//! A convolution of maps.

use crate::ops::{self, Window};
use crate::tensor::{Result, Tensor};
use crate::{Context, Init, Param, Scope};

/// A `k x k` convolution of maps with their channels last.
#[derive(Debug, Clone)]
pub struct Conv2d {
    /// `[O, I, k, k]`.
    pub weight: Param,
    /// `[O]`.
    pub bias: Option<Param>,
    /// Stride, padding and dilation.
    pub window: Window,
}

impl Conv2d {
    /// With PyTorch's default initialisation.
    pub fn new(scope: &Scope, inputs: usize, outputs: usize, kernel: usize, window: Window) -> Self {
        let init = Init::kaiming_uniform(inputs * kernel * kernel);
        Self::with_init(scope, inputs, outputs, kernel, window, &init, Some(&init))
    }

    /// With given initialisers; no bias if it has none.
    pub fn with_init(
        scope: &Scope,
        inputs: usize,
        outputs: usize,
        kernel: usize,
        window: Window,
        weight: &Init,
        bias: Option<&Init>,
    ) -> Self {
        Self {
            weight: scope.param("weight", &[outputs, inputs, kernel, kernel], weight),
            bias: bias.map(|init| scope.param("bias", &[outputs], init)),
            window,
        }
    }

    /// `[B, H, W, I]` to `[B, H', W', O]`.
    pub fn forward(&self, x: Tensor, ctx: &Context) -> Result<Tensor> {
        ops::conv2d(x, &self.weight, self.bias.as_ref(), self.window, &ctx.tape)
    }

    /// Multiply-accumulates for that many output positions.
    pub fn macs(&self, positions: usize) -> u64 {
        positions as u64 * self.weight.numel() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tape;
    use crate::random::{Purpose, stream};
    use crate::tape::backward;
    use crate::tensor::Tensor;
    use crate::testing::{loss, noise};

    #[test]
    fn as_a_first_layer_it_learns_from_constants() {
        let (scope, ctx) = (Scope::new(0), Context::train(stream(Purpose::Step, &[0])));
        let x = Tensor::from_vec(noise(1, 2 * 4 * 4 * 3), (2, 4, 4, 3), &Tape::none()).unwrap();
        let conv = Conv2d::new(&scope, 3, 5, 3, Window::same(3));
        backward(loss(conv.forward(x, &ctx).unwrap())).unwrap();
        assert!(scope.params().iter().all(|param| param.grad().is_some_and(|grad| grad[0] != 0.0)));
    }
}
