//! The tensor.

use std::rc::Rc;

use dfdx::shapes::{HasShape as _, Shape as TypedShape};
use dfdx::tensor::{PutTape as _, SplitTape as _};
use dfdx::tensor_ops::ReshapeTo as _;

use super::backend::{Buffer, Values, bridge, copy, download, download_all, single, upload};
use super::device::Device;
use super::gradients::TensorId;
use super::{Error, Result, Shape, Tape};

/// Values of `f32` on the [`Device`] in row-major order, with their dimensions and a handle of the tape they are recorded on.
///
/// The values are in memory of the kernels; dfdx gets them where an operation is composed of its own ([`Tensor::typed`]).
///
/// The rank is known at run time: an operation takes the dimensions that it needs apart ([`Tensor::dims3`]) and names them where
/// they do not fit. Cloning copies no values, and the clone stays recorded.
///
/// ```
/// use convmae_nn::{Tape, Tensor};
///
/// let x = Tensor::from_vec(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], (1, 2, 3), &Tape::none())?;
/// let (batch, tokens, channels) = x.dims3()?;
/// assert_eq!((batch, tokens, channels), (1, 2, 3));
/// assert_eq!(x.reshape((3, 2))?.dims(), [3, 2]);
/// # Ok::<(), convmae_nn::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Tensor {
    id: TensorId,
    values: Rc<Buffer>,
    shape: Shape,
    tape: Tape,
}

/// A tensor as dfdx has it, with its rank in its type.
pub type Typed<S> = dfdx::tensor::Tensor<S, f32, Device, Tape>;

impl Tensor {
    /// Values in row-major order, recorded on `tape`.
    ///
    /// # Errors
    /// If the values do not fill the shape, or the device has no memory for them.
    pub fn from_vec(values: Vec<f32>, shape: impl Into<Shape>, tape: &Tape) -> Result<Self> {
        let shape = shape.into();
        if values.len() != shape.numel() {
            return Err(Error::Shape(format!("{} values do not fill the shape {shape:?}", values.len())));
        }
        Ok(Self::from_buffer(upload(values)?, shape)?.on(tape.clone()))
    }

    /// The dimensions, outermost first; none for a scalar.
    pub fn dims(&self) -> &[usize] {
        &self.shape
    }

    /// The dimensions as a value.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The dimension of a vector.
    ///
    /// # Errors
    /// If it has another rank.
    pub fn dims1(&self) -> Result<usize> {
        let [a] = self.shape.ranked()?;
        Ok(a)
    }

    /// The dimensions of a matrix.
    ///
    /// # Errors
    /// If it has another rank.
    pub fn dims2(&self) -> Result<(usize, usize)> {
        Ok(self.shape.ranked::<2>()?.into())
    }

    /// The dimensions of tokens, `[B, N, C]`.
    ///
    /// # Errors
    /// If it has another rank.
    pub fn dims3(&self) -> Result<(usize, usize, usize)> {
        self.shape.dims3()
    }

    /// The dimensions of maps `[B, H, W, C]`, or of images `[B, C, H, W]`.
    ///
    /// # Errors
    /// If it has another rank.
    pub fn dims4(&self) -> Result<(usize, usize, usize, usize)> {
        self.shape.dims4()
    }

    /// The number of values.
    pub fn numel(&self) -> usize {
        self.shape.numel()
    }

    /// The same values with other dimensions. Nothing is copied.
    ///
    /// # Errors
    /// If there are not as many values.
    pub fn reshape(self, shape: impl Into<Shape>) -> Result<Self> {
        let shape = shape.into();
        if shape.numel() != self.numel() {
            return Err(Error::Shape(format!("{:?} cannot become {shape:?}", self.shape)));
        }
        Ok(Self { shape, ..self })
    }

    /// The tape on which it is recorded.
    pub fn tape(&self) -> Tape {
        self.tape.clone()
    }

    /// The same values on no tape: no gradient flows back through them.
    #[must_use]
    pub fn detach(&self) -> Self {
        self.clone().on(Tape::none())
    }

    /// The values in row-major order.
    ///
    /// # Errors
    /// If the device fails.
    pub fn to_vec(&self) -> Result<Vec<f32>> {
        download(&self.values)
    }

    /// [`Tensor::to_vec`] of several, for which a card is waited for once.
    ///
    /// # Errors
    /// If the device fails.
    pub fn to_vecs<'a>(tensors: impl IntoIterator<Item = &'a Self>) -> Result<Vec<Vec<f32>>> {
        let values: Vec<&Values> = tensors.into_iter().map(Self::values).collect();
        download_all(&values)
    }

    /// The values in memory of the device, row-major.
    pub fn values(&self) -> &Values {
        &self.values
    }

    /// What its gradient belongs to.
    pub(crate) fn id(&self) -> TensorId {
        self.id
    }

    /// The values, for a kernel that may change them: a copy if they are still those of another clone.
    pub(crate) fn into_buffer(self) -> Result<Buffer> {
        Rc::try_unwrap(self.values).or_else(|shared| copy(&shared))
    }

    /// Of values that a kernel computed, on no tape.
    pub(crate) fn from_buffer(values: Buffer, shape: Shape) -> Result<Self> {
        Ok(Self { id: TensorId::new(), values: Rc::new(single(values)?), shape, tape: Tape::none() })
    }

    /// As a tensor of dfdx, for operations of one's own that are made of dfdx's.
    ///
    /// ```
    /// use convmae_nn::{Tape, Tensor};
    /// use dfdx::tensor_ops::TryMul as _;
    ///
    /// let x = Tensor::from_vec(vec![1.0, 2.0, 3.0, 4.0], (2, 2), &Tape::none())?;
    /// let squares = x.clone().typed((2, 2))?.try_mul(x.typed((2, 2))?)?;
    /// assert_eq!(Tensor::from_typed(squares)?.to_vec()?, [1.0, 4.0, 9.0, 16.0]);
    /// # Ok::<(), convmae_nn::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the shape holds another number of values.
    pub fn typed<S: TypedShape>(self, shape: S) -> Result<Typed<S>> {
        if shape.num_elements() != self.numel() {
            return Err(Error::Shape(format!("{:?} cannot become {shape:?}", self.shape)));
        }
        let (id, tape) = (self.id, self.tape.clone());
        let flat = bridge::into_tensor(self.into_buffer()?)?;
        if tape.is_recording() {
            let ghost = flat.ghost();
            tape.record(move |grads| {
                let grad = bridge::take_grad(grads.dfdx.get_or_alloc_mut(&ghost)?)?;
                grads.add(id, grad)
            });
        }
        Ok(flat.put_tape(tape).try_reshape_like(&shape)?)
    }

    /// Of a tensor of dfdx with at most four dimensions.
    ///
    /// # Errors
    /// If the device fails.
    pub fn from_typed<S: TypedShape>(tensor: Typed<S>) -> Result<Self>
    where
        S::Concrete: Into<Shape>,
    {
        let shape = tensor.shape().concrete().into();
        let (flat, tape) = tensor.try_reshape_like(&(shape.numel(),))?.split_tape();
        let ghost = flat.ghost();
        let own = Self::from_buffer(bridge::from_tensor(flat)?, shape)?;
        if tape.is_recording() {
            let (id, len) = (own.id, own.numel());
            tape.record(move |grads| {
                let grad = grads.take(id, len)?;
                bridge::add_grad(grads.dfdx.get_or_alloc_mut(&ghost)?, &grad)
            });
        }
        Ok(own.on(tape))
    }

    /// The same values recorded on `tape`.
    #[must_use]
    pub(crate) fn on(self, tape: Tape) -> Self {
        Self { tape, ..self }
    }
}

#[cfg(test)]
mod tests {
    use dfdx::shapes::{Axes3, Axis};
    use dfdx::tensor_ops::{BroadcastTo as _, PermuteTo as _};

    use super::*;

    #[test]
    fn values_come_back_in_row_major_order() {
        let values: Vec<f32> = (0..6).map(|i| i as f32).collect();
        let x = Tensor::from_vec(values.clone(), (1, 2, 3), &Tape::none()).unwrap();
        assert_eq!(x.to_vec().unwrap(), values);
        let permuted = x.typed((1, 2, 3)).unwrap().try_permute::<_, Axes3<0, 2, 1>>().unwrap();
        let permuted = Tensor::from_typed(permuted).unwrap();
        assert_eq!((permuted.dims(), permuted.numel()), (&[1, 3, 2][..], 6));
        assert_eq!(permuted.to_vec().unwrap(), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        let row = Tensor::from_vec(vec![1.0, 2.0], (2,), &Tape::none()).unwrap();
        let broadcast = row.typed((2,)).unwrap().try_broadcast_like::<_, Axis<0>>(&(2, 2)).unwrap();
        assert_eq!(Tensor::from_typed(broadcast).unwrap().to_vec().unwrap(), [1.0, 2.0, 1.0, 2.0]);
    }

    #[test]
    fn values_that_do_not_fill_the_shape_are_refused() {
        assert!(matches!(Tensor::from_vec(vec![0.0; 5], (2, 3), &Tape::none()), Err(Error::Shape(_))));
        let x = Tensor::from_vec(vec![0.0; 6], (2, 3), &Tape::none()).unwrap();
        assert!(matches!(x.clone().reshape((5,)), Err(Error::Shape(_))));
        assert!(matches!(x.typed((2, 2)), Err(Error::Shape(_))));
    }

    #[test]
    fn another_rank_is_an_error_that_names_both() {
        let x = Tensor::from_vec(vec![0.0; 6], (2, 3), &Tape::none()).unwrap();
        assert_eq!(x.dims2().unwrap(), (2, 3));
        let message = x.dims3().unwrap_err().to_string();
        assert_eq!(message, "a tensor of 3 dimensions is needed, this one is [2, 3]");
    }
}
