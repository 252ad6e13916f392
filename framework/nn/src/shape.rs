//! The dimensions of a tensor.

use std::fmt;
use std::ops::Deref;

use super::{Error, Result};

/// The most dimensions that a tensor has.
const MAX_RANK: usize = 6;

/// The dimensions of a tensor, outermost first: a slice of up to six, held in place.
///
/// Made from tuples and arrays:
///
/// ```
/// use convmae_nn::Shape;
///
/// let shape = Shape::from((2, 49, 384));
/// assert_eq!(shape, Shape::from([2, 49, 384]));
/// assert_eq!((shape.len(), shape.numel()), (3, 2 * 49 * 384));
/// assert_eq!(Shape::from(()).numel(), 1, "a scalar");
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Zeros behind the rank.
    dims: [usize; MAX_RANK],
    rank: usize,
}

impl Shape {
    /// The number of values, the product of the dimensions; 1 for a scalar.
    pub fn numel(&self) -> usize {
        self.iter().product()
    }

    /// The last dimension, the channels of tokens and maps; 0 for a scalar.
    pub fn channels(&self) -> usize {
        self.last().copied().unwrap_or_default()
    }

    /// The dimensions of tokens, `[B, N, C]`.
    ///
    /// # Errors
    /// If there are not three.
    pub fn dims3(&self) -> Result<(usize, usize, usize)> {
        Ok(self.ranked::<3>()?.into())
    }

    /// The dimensions of maps `[B, H, W, C]`, or of images `[B, C, H, W]`.
    ///
    /// # Errors
    /// If there are not four.
    pub fn dims4(&self) -> Result<(usize, usize, usize, usize)> {
        Ok(self.ranked::<4>()?.into())
    }

    pub(crate) fn ranked<const N: usize>(&self) -> Result<[usize; N]> {
        (**self)
            .try_into()
            .map_err(|_| Error::Shape(format!("a tensor of {N} dimensions is needed, this one is {self:?}")))
    }

    /// The same but for the last dimension, which becomes `channels`.
    #[must_use]
    pub fn with_last(mut self, channels: usize) -> Self {
        if let Some(last) = self.dims[..self.rank].last_mut() {
            *last = channels;
        }
        self
    }
}

impl Deref for Shape {
    type Target = [usize];

    fn deref(&self) -> &[usize] {
        &self.dims[..self.rank]
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.deref().fmt(f)
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    fn from(own: [usize; N]) -> Self {
        const { assert!(N <= MAX_RANK, "a tensor has at most six dimensions") };
        let mut dims = [0; MAX_RANK];
        dims[..N].copy_from_slice(&own);
        Self { dims, rank: N }
    }
}

impl From<()> for Shape {
    fn from((): ()) -> Self {
        Self::from([])
    }
}

impl From<(usize,)> for Shape {
    fn from((a,): (usize,)) -> Self {
        Self::from([a])
    }
}

impl From<(usize, usize)> for Shape {
    fn from(dims: (usize, usize)) -> Self {
        Self::from(<[usize; 2]>::from(dims))
    }
}

impl From<(usize, usize, usize)> for Shape {
    fn from(dims: (usize, usize, usize)) -> Self {
        Self::from(<[usize; 3]>::from(dims))
    }
}

impl From<(usize, usize, usize, usize)> for Shape {
    fn from(dims: (usize, usize, usize, usize)) -> Self {
        Self::from(<[usize; 4]>::from(dims))
    }
}
