//! Between tensors of dfdx and memory of kernels, by what dfdx has for everyone.
//!
//! dfdx shows the memory of gradients, not that of tensors. So values leave a tensor by its kernel of SGD, which writes them to the
//! velocity, and enter one as a gradient that is asked for as a tensor. Bytes moved for each value: out 28, and 8 more where
//! the tensor is shared; in 16.

use dfdx::shapes::HasShape as _;
use dfdx::tensor::{Gradients, Storage, ZerosTensor as _};
use dfdx::tensor_ops::{Momentum, SgdConfig, WeightDecay};

use super::buffer::scratch;
use super::{Buffer, Values, elementwise};
use crate::device::{Device, device};
use crate::error::Result;

/// A tensor of dfdx that nothing records, row-major.
pub type Flat = dfdx::tensor::Tensor<(usize,), f32, Device>;

/// The gradient of a tensor in dfdx's collection of them.
pub type Gradient = <Device as Storage<f32>>::Vec;

/// The values of a tensor whose values lie one behind the other.
pub fn from_tensor(mut tensor: Flat) -> Result<Buffer> {
    // The velocity becomes `0 * velocity + gradient + 1 * values`, with zeros as the gradient.
    const READ: SgdConfig = SgdConfig {
        lr: 0.0,
        momentum: Some(Momentum::Classic(0.0)),
        weight_decay: Some(WeightDecay::L2(1.0)),
    };
    let len = tensor.shape().0;
    if len == 0 {
        return super::unspecified(0);
    }
    let (mut velocities, mut gradients) = (Gradients::leaky(), Gradients::leaky());
    let velocity = velocities.get_or_alloc_mut(&tensor)?;
    let gradient = gradients.get_or_alloc_mut(&tensor)?;
    // Changes no tensor that anyone else holds: a shared one is copied before.
    READ.try_update(&mut tensor, velocity, gradient)?;
    take_grad(velocity)
}

/// A tensor of these values.
pub fn into_tensor(values: Buffer) -> Result<Flat> {
    // For its shape alone.
    let shaped = device()?.try_zeros_like(&(values.len(),))?;
    if values.is_empty() {
        return Ok(shaped);
    }
    let mut gradients = Gradients::leaky();
    **gradients.get_or_alloc_mut(&shaped)? = values.into_memory()?;
    Ok(gradients.get(&shaped))
}

/// The values of a gradient that nobody reads any more.
pub fn take_grad(grad: &mut Gradient) -> Result<Buffer> {
    let len = cudarc::driver::DeviceSlice::len(&**grad);
    Ok(Buffer::new(std::mem::replace(&mut **grad, scratch(1)?), len))
}

/// Adds to a gradient.
pub fn add_grad(grad: &mut Gradient, values: &Values) -> Result<()> {
    let mut sum = take_grad(grad)?;
    elementwise::add_assign(&mut sum, values)?;
    **grad = sum.into_memory()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use dfdx::tensor::TensorFromVec as _;

    use super::super::{download, upload};
    use super::*;

    fn tensor(values: &[f32]) -> Flat {
        device().unwrap().try_tensor_from_vec(values.to_vec(), (values.len(),)).unwrap()
    }

    #[test]
    fn values_survive_both_ways() {
        let values_of = |tensor: Flat| download(&from_tensor(tensor).unwrap()).unwrap();
        for values in [vec![1.5], vec![1.0, f32::INFINITY, -2.0, f32::MIN_POSITIVE]] {
            let tensor = tensor(&values);
            assert_eq!(values_of(tensor.clone()), values);
            assert_eq!(tensor.as_vec(), values, "a shared tensor keeps its values");
            assert_eq!(into_tensor(upload(values.clone()).unwrap()).unwrap().as_vec(), values);
        }
        assert_eq!(values_of(into_tensor(upload(vec![]).unwrap()).unwrap()), [0.0; 0]);
    }

    #[test]
    fn gradients_are_added_and_taken() {
        let (tensor, mut grads) = (tensor(&[0.0; 3]), Gradients::leaky());
        for _ in 0..2 {
            let gradient = grads.get_or_alloc_mut(&tensor).unwrap();
            add_grad(gradient, &upload(vec![1.0, 2.0, 3.0]).unwrap()).unwrap();
        }
        assert_eq!(grads.get(&tensor).as_vec(), [2.0, 4.0, 6.0]);
        let taken = take_grad(grads.get_or_alloc_mut(&tensor).unwrap()).unwrap();
        assert_eq!(download(&taken).unwrap(), [2.0, 4.0, 6.0]);
    }
}
