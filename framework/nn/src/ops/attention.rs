//! Multi-head self-attention.

use crate::tensor::{Error, Result, Tensor};

#[cfg(feature = "cuda")]
use composed as implementation;
#[cfg(not(feature = "cuda"))]
use kernel as implementation;

/// softmax(q k^T / sqrt(D / heads) + bias) v.
///
/// `qkv` is `[B, N, 3 * D]`, ordered `[q | k | v]`, each `[heads, D / heads]`; `bias` is `[heads, N, N]`, added to the scores
/// of every image (relative positions), and differentiable. Returns `[B, N, D]`.
///
/// # Errors
/// If the channels are not three times a multiple of `heads`, or the bias does not fit.
pub fn attention(qkv: Tensor, heads: usize, bias: Option<Tensor>) -> Result<Tensor> {
    let (_, tokens, channels) = qkv.dims3()?;
    check_heads((tokens, channels), heads)?;
    if let Some(bias) = bias.as_ref().filter(|bias| bias.dims() != [heads, tokens, tokens]) {
        return Err(Error::Shape(format!(
            "a bias of shape {:?} for {heads} heads and {tokens} tokens",
            bias.dims()
        )));
    }
    implementation::attention(qkv, heads, bias)
}

/// That queries, keys and values of tokens can be divided among the heads.
pub(super) fn check_heads((tokens, channels): (usize, usize), heads: usize) -> Result<()> {
    if heads == 0 || channels == 0 || !channels.is_multiple_of(3 * heads) {
        return Err(Error::Shape(format!(
            "{channels} channels are not queries, keys and values of {heads} heads"
        )));
    }
    if tokens == 0 {
        return Err(Error::Shape("attention over no tokens".to_owned()));
    }
    Ok(())
}

#[cfg(not(feature = "cuda"))]
mod kernel {

    use crate::kernels::Buffer;
    use crate::kernels::attention::{self, Dims};
    use crate::ops::operation;
    use crate::tensor::{Result, Tensor};

    pub fn attention(qkv: Tensor, heads: usize, bias: Option<Tensor>) -> Result<Tensor> {
        let (batch, tokens, channels) = qkv.dims3()?;
        let dims = Dims { batch, queries: tokens, keys: tokens, heads, head_dim: channels / 3 / heads };
        let inputs = std::iter::once(qkv).chain(bias).collect();
        operation(inputs, (batch, tokens, dims.dim()), move |values, record| {
            let mut values = values.into_iter();
            let (qkv, bias) = (values.next().unwrap_or_else(|| Buffer::zeros(0)), values.next());
            let (output, normalisers) = attention::forward(&qkv, bias.as_deref(), dims);
            let backward = move |grad: Buffer| {
                let (grad_qkv, grad_bias) =
                    attention::backward(&grad, &qkv, bias.as_deref(), &normalisers, dims);
                std::iter::once(grad_qkv).chain(grad_bias.map(Buffer::from)).collect()
            };
            Ok((output, record.then(|| Box::new(backward) as _)))
        })
    }
}

#[cfg(any(test, feature = "cuda"))]
mod composed {
    use dfdx::shapes::{Axes3, Axes4, Axes5, Axis};
    use dfdx::tensor::TensorFromVec as _;
    use dfdx::tensor_ops::{
        BroadcastTo as _, PermuteTo as _, ReshapeTo as _, SelectTo as _, TryAdd as _, TryMatMul as _,
        TryMul as _,
    };

    use crate::device;
    use crate::ops::rows::{T3, T4, dense};
    use crate::tensor::{Result, Tensor};

    pub fn attention(qkv: Tensor, heads: usize, bias: Option<Tensor>) -> Result<Tensor> {
        let (batch, tokens, channels) = qkv.dims3()?;
        let head_dim = channels / 3 / heads;
        let qkv =
            qkv.typed((batch, tokens, 3usize, heads, head_dim))?.try_permute::<_, Axes5<2, 0, 3, 1, 4>>()?;
        // Images and heads are one axis: one batch of products, not one for every image.
        let part = |index: usize| -> Result<T3> {
            let part: T4 = qkv.clone().try_select(device()?.try_tensor_from_vec(vec![index], ())?)?;
            Ok(part.try_reshape_like(&(batch * heads, tokens, head_dim))?)
        };
        let keys = part(1)?.try_permute::<_, Axes3<0, 2, 1>>()?;
        let mut scores: T3 = part(0)?.try_matmul(keys)?.try_mul((head_dim as f32).powf(-0.5))?;
        if let Some(bias) = bias {
            let by_head = (batch, heads, tokens, tokens);
            let bias = bias.typed((heads, tokens, tokens))?.try_broadcast_like::<_, Axis<0>>(&by_head)?;
            let biased = scores.try_reshape_like(&by_head)?.try_add(bias)?;
            scores = biased.try_reshape_like(&(batch * heads, tokens, tokens))?;
        }
        let output: T3 = scores.try_softmax::<Axis<2>>()?.try_matmul(part(2)?)?;
        let output = output.try_reshape_like(&(batch, heads, tokens, head_dim))?;
        let output = dense(output.try_permute::<_, Axes4<0, 2, 1, 3>>()?)?;
        Tensor::from_typed(output)?.reshape((batch, tokens, channels / 3))
    }
}

#[cfg(all(test, not(feature = "cuda")))]
mod tests {
    use super::{attention, composed};
    use crate::Tape;
    use crate::tape::backward;
    use crate::tensor::{Error, Result, Tensor};
    use crate::testing::{assert_close, loss, noise, run, wide};

    const SHAPE: (usize, usize, usize) = (2, 7, 24);
    const HEADS: usize = 2;

    #[test]
    fn equals_the_composed_operation() {
        let qkv: Vec<f32> = noise(1, 2 * 7 * 24).iter().map(|x| 3.0 * x).collect();
        let own = run(&qkv, SHAPE, &[], |x| attention(x, HEADS, None));
        own.assert_close(&run(&qkv, SHAPE, &[], |x| composed::attention(x, HEADS, None)), 2e-6);
    }

    #[test]
    fn the_bias_and_its_gradient_equal_those_of_the_composed_operation() {
        let with = |operation: fn(Tensor, usize, Option<Tensor>) -> Result<Tensor>| {
            let tape = Tape::new();
            let bias = Tensor::from_vec(noise(2, 2 * 7 * 7), (HEADS, 7, 7), &tape).unwrap();
            let qkv = Tensor::from_vec(noise(1, 2 * 7 * 24), SHAPE, &tape).unwrap();
            let mut grads = backward(loss(operation(qkv, HEADS, Some(bias.clone())).unwrap())).unwrap();
            grads.of(&bias).unwrap()
        };
        assert_close(&with(attention), &wide(&with(composed::attention)), 1e-6);
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let x = Tensor::from_vec(noise(1, 2 * 7 * 24), SHAPE, &Tape::none()).unwrap();
        let bias = Tensor::from_vec(noise(2, 7 * 7), (1, 7, 7), &Tape::none()).unwrap();
        assert!(matches!(attention(x.clone(), 0, None), Err(Error::Shape(_))));
        assert!(matches!(attention(x.clone(), 5, None), Err(Error::Shape(_))));
        assert!(matches!(attention(x, HEADS, Some(bias)), Err(Error::Shape(_))));
    }
}
