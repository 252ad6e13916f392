//! Aliases of dfdx tensors with run-time shapes, and the errors of tensor code.

use dfdx::shapes::HasShape;
use dfdx::tensor::{NoneTape, TensorFromVec};
use dfdx::tensor_ops::ReshapeTo as _;

use super::Tape;
use super::device::{Device, DeviceError, device};
use super::kernels::Buffer;

/// A tensor of `f32` on the [`Device`], holding a handle of the tape it is recorded on.
pub type Tensor<S> = dfdx::tensor::Tensor<S, f32, Device, Tape>;

/// A scalar.
pub type T0 = Tensor<()>;
/// A vector, `[N]`.
pub type T1 = Tensor<(usize,)>;
/// A matrix, `[N, C]`.
pub type T2 = Tensor<(usize, usize)>;
/// Tokens, `[B, N, C]`.
pub type T3 = Tensor<(usize, usize, usize)>;
/// Images `[B, C, H, W]`, or maps `[B, H, W, C]`.
pub type T4 = Tensor<(usize, usize, usize, usize)>;

/// What can go wrong in tensor code.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no CUDA driver, or no card that it may use.
    #[error(
        "no CUDA device: {0}; is the NVIDIA driver installed, and a card visible (nvidia-smi, CUDA_VISIBLE_DEVICES)?"
    )]
    NoDevice(String),
    /// There is a driver, but no such card.
    #[error("there is no card `cuda:{card}`: {}", visible(*count))]
    NoSuchCard {
        /// The card that was asked for, from 0.
        card: u16,
        /// How many there are, at least one.
        count: u16,
    },
    /// A card is asked of a program for the CPU.
    #[error("this program was built without CUDA: build with `--features cuda`")]
    BuiltWithoutCuda,
    /// The CPU is asked of a program for cards.
    #[error("this program was built with CUDA and computes on cards alone: build without `--features cuda`")]
    BuiltWithCuda,
    /// The device ran out of memory or failed.
    #[error("device: {0}")]
    Device(String),
    /// Shapes that do not fit each other.
    #[error("{0}")]
    Shape(String),
    /// A value that the operation cannot take.
    #[error("{0}")]
    Value(String),
}

/// The result of tensor code.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl From<DeviceError> for Error {
    fn from(error: DeviceError) -> Self {
        Self::Device(error.to_string())
    }
}

fn visible(count: u16) -> String {
    match count.saturating_sub(1) {
        0 => "1 is visible, `cuda:0`".to_owned(),
        last => format!("{count} are visible, `cuda:0` to `cuda:{last}`"),
    }
}

/// A tensor from values in row-major order, recorded on `tape`.
pub fn from_vec<S: dfdx::shapes::Shape>(values: Vec<f32>, shape: S, tape: &Tape) -> Result<Tensor<S>> {
    use dfdx::tensor::PutTape as _;
    if values.len() != shape.num_elements() {
        return Err(Error::Shape(format!("{} values do not fill the shape {shape:?}", values.len())));
    }
    Ok(device()?.try_tensor_from_vec(values, shape)?.put_tape(tape.clone()))
}

/// The values of a tensor in row-major order.
pub fn to_vec<S: dfdx::shapes::Shape, T: dfdx::tensor::Tape<f32, Device>>(
    tensor: &dfdx::tensor::Tensor<S, f32, Device, T>,
) -> Result<Vec<f32>> {
    let mut values = vec![0.0; tensor.shape().num_elements()];
    copy_into(tensor, &mut values)?;
    Ok(values)
}

/// [`to_vec`] in memory of kernels.
pub fn to_buffer<S: dfdx::shapes::Shape>(tensor: &Tensor<S>) -> Result<Buffer> {
    let mut values = Buffer::unspecified(tensor.shape().num_elements());
    copy_into(tensor, &mut values)?;
    Ok(values)
}

fn copy_into<S: dfdx::shapes::Shape, T: dfdx::tensor::Tape<f32, Device>>(
    tensor: &dfdx::tensor::Tensor<S, f32, Device, T>,
    values: &mut [f32],
) -> Result<()> {
    // Broadcast or permuted tensors have overlaps or another order in storage; a dense one is not copied here.
    tensor.retaped::<NoneTape>().try_contiguous()?.copy_into(values);
    Ok(())
}

/// The tape on which a tensor is recorded.
pub fn tape_of<S: dfdx::shapes::Shape>(tensor: &Tensor<S>) -> Tape {
    use dfdx::tensor::SplitTape as _;
    tensor.clone().split_tape().1
}

#[cfg(test)]
mod tests {
    use dfdx::shapes::{Axes3, Axis};
    use dfdx::tensor_ops::{BroadcastTo as _, PermuteTo as _};

    use super::*;

    #[test]
    fn values_come_back_in_row_major_order() {
        let values: Vec<f32> = (0..6).map(|i| i as f32).collect();
        let x = from_vec(values.clone(), (1, 2, 3), &Tape::none()).unwrap();
        assert_eq!(to_vec(&x).unwrap(), values);
        let permuted = x.try_permute::<_, Axes3<0, 2, 1>>().unwrap();
        assert_eq!(to_vec(&permuted).unwrap(), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        let row = from_vec(vec![1.0, 2.0], (2,), &Tape::none()).unwrap();
        let broadcast = row.try_broadcast_like::<_, Axis<0>>(&(2, 2)).unwrap();
        assert_eq!(to_vec(&broadcast).unwrap(), [1.0, 2.0, 1.0, 2.0]);
    }

    #[test]
    fn values_that_do_not_fill_the_shape_are_refused() {
        assert!(matches!(from_vec(vec![0.0; 5], (2, 3), &Tape::none()), Err(Error::Shape(_))));
    }
}
