//! The attention half of a transformer block.

use dfdx::shapes::HasShape as _;

use super::{LinearParams, NormParams, Residual};
use crate::nn::ops::attention::check_heads;
use crate::nn::tensor::{Result, T3};

#[cfg(feature = "cuda")]
use composed as implementation;
#[cfg(not(feature = "cuda"))]
use kernel as implementation;

/// `x + proj(attention(qkv(norm(x))))` on `[B, N, D]`, with that many heads.
///
/// # Errors
/// If a parameter does not fit.
pub fn self_attention(
    x: T3,
    norm: NormParams<'_>,
    qkv: LinearParams<'_>,
    proj: LinearParams<'_>,
    heads: usize,
    how: Residual<'_>,
) -> Result<T3> {
    let (_, tokens, channels) = *x.shape();
    norm.check(channels)?;
    qkv.check_outputs(channels, 3 * channels)?;
    proj.check_outputs(channels, channels)?;
    check_heads((tokens, 3 * channels), heads)?;
    implementation::self_attention(x, norm, qkv, proj, heads, how)
}

#[cfg(not(feature = "cuda"))]
mod kernel {
    use dfdx::shapes::HasShape as _;

    use super::super::kernel::{Branch, residual};
    use super::{LinearParams, NormParams, Residual};
    use crate::nn::kernels::Buffer;
    use crate::nn::kernels::attention::{self, Dims};
    use crate::nn::ops::layers::{Linear, Norm};
    use crate::nn::tensor::{Result, T3};

    pub fn self_attention(
        x: T3,
        norm: NormParams<'_>,
        qkv: LinearParams<'_>,
        proj: LinearParams<'_>,
        heads: usize,
        how: Residual<'_>,
    ) -> Result<T3> {
        let (batch, tokens, channels) = *x.shape();
        let dims = Dims { batch, tokens, heads, head_dim: channels / heads };
        residual(x, Norm::new(norm), SelfAttention { qkv: Linear::new(qkv), proj: Linear::new(proj), dims }, how)
    }

    struct SelfAttention {
        qkv: Linear,
        proj: Linear,
        dims: Dims,
    }

    struct Kept {
        qkv: Buffer,
        output: Buffer,
        normalisers: Vec<f32>,
    }

    impl Branch for SelfAttention {
        type Kept = Kept;

        fn forward(&self, x: &[f32], y: Option<&mut [f32]>) -> Kept {
            let qkv = self.qkv.forward(x);
            let (output, normalisers) = attention::forward(&qkv, None, self.dims);
            if let Some(y) = y {
                self.proj.forward_onto(&output, y);
            }
            Kept { qkv, output, normalisers }
        }

        fn backward(&self, x: &[f32], kept: Kept, grad: &[f32]) -> Buffer {
            let Kept { qkv, output, normalisers } = kept;
            let grad_output = self.proj.backward_input(grad);
            self.proj.backward_params(grad, &output);
            let (grad_qkv, _) = attention::backward(&grad_output, &qkv, None, &normalisers, self.dims);
            drop((qkv, output, grad_output));
            self.qkv.backward_params(&grad_qkv, x);
            self.qkv.backward_input(&grad_qkv)
        }
    }
}

#[cfg(any(test, feature = "cuda"))]
mod composed {
    use super::super::composed::residual;
    use super::{LinearParams, NormParams, Residual};
    use crate::nn::ops;
    use crate::nn::tensor::{Result, T3};

    pub fn self_attention(
        x: T3,
        norm: NormParams<'_>,
        qkv: LinearParams<'_>,
        proj: LinearParams<'_>,
        heads: usize,
        how: Residual<'_>,
    ) -> Result<T3> {
        let branch = ops::layer_norm(x.clone(), norm, how.tape)?;
        let branch = ops::attention(ops::linear(branch, qkv, how.tape)?, heads, None)?;
        residual(x, ops::linear(branch, proj, how.tape)?, how)
    }
}

#[cfg(all(test, not(feature = "cuda")))]
mod tests {
    use super::super::testing::{check, params};
    use super::*;

    #[test]
    fn equals_the_composed_operations() {
        let params = params(&[&[18, 6], &[18], &[6, 6], &[6]]);
        let [norm_weight, norm_bias, weight1, bias1, weight2, bias2] = &params[..] else { unreachable!() };
        let norm = NormParams { weight: norm_weight, bias: norm_bias, eps: 1e-3 };
        let qkv = LinearParams { weight: weight1, bias: Some(bias1) };
        let proj = LinearParams { weight: weight2, bias: Some(bias2) };
        check(
            &params,
            |x, how| self_attention(x, norm, qkv, proj, 2, how),
            |x, how| composed::self_attention(x, norm, qkv, proj, 2, how),
        );
    }
}
