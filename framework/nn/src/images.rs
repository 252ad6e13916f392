//! The images of a batch, on the host and on the device.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use super::backend::images as backend;
use super::{Error, Normalization, Result, Shape, Tape, Tensor};

/// Images `[B, C, H, W]`: their pixels in memory of the host and, from the first use or [`Images::upload`] on, in that of the device.
///
/// A handle: cloning copies no pixels.
#[derive(Debug, Clone)]
pub struct Images(Arc<Shared>);

/// The pixels of [`Images`]: 8 bits as long as nothing but their normalisation is to be done, a quarter of the bytes of floats.
#[derive(Debug, Clone)]
pub enum Pixels {
    /// `[B, H, W, C]`, not normalised yet.
    Bytes(Arc<Vec<u8>>, Normalization),
    /// `[B, C, H, W]`, normalised.
    Floats(Arc<Vec<f32>>),
}

#[derive(Debug)]
struct Shared {
    pixels: Pixels,
    shape: Shape,
    uploaded: OnceLock<backend::Uploaded>,
}

impl Images {
    /// Of pixels; whether they fill the shape, `[B, C, H, W]`, is told by who uses them on the device.
    pub fn new(pixels: Pixels, shape: impl Into<Shape>) -> Self {
        Self(Arc::new(Shared { pixels, shape: shape.into(), uploaded: OnceLock::new() }))
    }

    /// Of normalised values, `[B, C, H, W]`.
    pub fn from_vec(values: Vec<f32>, shape: impl Into<Shape>) -> Self {
        Self::new(Pixels::Floats(Arc::new(values)), shape)
    }

    /// The shape, `[B, C, H, W]`.
    pub fn shape(&self) -> Shape {
        self.0.shape
    }

    /// The pixels in memory of the host.
    pub fn pixels(&self) -> &Pixels {
        &self.0.pixels
    }

    /// The normalised values, `[B, C, H, W]`, in memory of the host.
    pub fn values(&self) -> Cow<'_, [f32]> {
        self.0.pixels.normalized(self.0.shape)
    }

    /// The normalised values of one image, `[C, H, W]`, in memory of the host.
    ///
    /// # Panics
    /// If there is no such image.
    pub fn image(&self, at: usize) -> Cow<'_, [f32]> {
        let len = self.shape()[1..].iter().product::<usize>();
        let range = at * len..(at + 1) * len;
        match self.pixels() {
            Pixels::Floats(values) => Cow::Borrowed(&values[range]),
            Pixels::Bytes(values, normalization) => {
                let mut image = vec![0.0; len];
                normalization.normalize(&values[range], &mut image);
                Cow::Owned(image)
            }
        }
    }

    /// The normalised values, `[B, C, H, W]`, to be changed.
    pub fn into_vec(self) -> Vec<f32> {
        match Arc::try_unwrap(self.0) {
            Ok(Shared { pixels: Pixels::Floats(values), .. }) => Arc::unwrap_or_clone(values),
            Ok(shared) => shared.pixels.normalized(shared.shape).into_owned(),
            Err(shared) => shared.pixels.normalized(shared.shape).into_owned(),
        }
    }

    /// Begins to bring them to the device, beside what that computes, if nobody has yet.
    ///
    /// # Errors
    /// If the pixels do not fill the shape, or the device fails.
    pub fn upload(&self) -> Result<()> {
        self.on_device().map(drop)
    }

    /// The normalised values as a tensor `[B, C, H, W]`, on no tape: images need no gradient.
    ///
    /// # Errors
    /// As [`Images::upload`].
    pub fn tensor(&self) -> Result<Tensor> {
        Ok(Tensor::from_buffer(backend::normalized(self.on_device()?)?, self.shape())?.on(Tape::none()))
    }

    /// What kernels read.
    pub(crate) fn on_device(&self) -> Result<&backend::Uploaded> {
        let Shared { pixels, shape, uploaded } = &*self.0;
        if let Some(uploaded) = uploaded.get() {
            return Ok(uploaded);
        }
        let (_, channels, ..) = shape.dims4()?;
        if pixels.len() != shape.numel() || pixels.channels().is_some_and(|own| own != channels) {
            return Err(Error::Shape(format!("{} pixels do not fill images of {shape:?}", pixels.len())));
        }
        let new = backend::upload(pixels, *shape)?;
        Ok(uploaded.get_or_init(|| new))
    }
}

impl Pixels {
    /// How many values there are.
    fn len(&self) -> usize {
        match self {
            Self::Bytes(values, _) => values.len(),
            Self::Floats(values) => values.len(),
        }
    }

    /// How many channels there are, where they tell.
    fn channels(&self) -> Option<usize> {
        match self {
            Self::Bytes(_, normalization) => Some(normalization.channels()),
            Self::Floats(_) => None,
        }
    }

    /// The normalised values, of a shape that they fill.
    pub(crate) fn normalized(&self, shape: Shape) -> Cow<'_, [f32]> {
        match self {
            Self::Floats(values) => Cow::Borrowed(values),
            Self::Bytes(values, normalization) => {
                let mut output = vec![0.0; values.len()];
                let len = shape[1..].iter().product::<usize>().max(1);
                for (pixels, output) in values.chunks(len).zip(output.chunks_mut(len)) {
                    normalization.normalize(pixels, output);
                }
                Cow::Owned(output)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes() -> Images {
        let normalization = Normalization { mean: vec![0.0, 0.5], std: vec![1.0 / 255.0, 0.5 / 255.0] };
        Images::new(Pixels::Bytes(Arc::new((0..8).collect()), normalization), (2, 2, 1, 2))
    }

    #[test]
    fn images_of_bytes_are_those_of_their_normalised_values() {
        let bytes = bytes();
        let values = bytes.values().into_owned();
        assert_eq!(values[..2], [0.0, 2.0]);
        let floats = Images::from_vec(values.clone(), (2, 2, 1, 2));
        for images in [&bytes, &floats] {
            assert_eq!(*images.image(1), values[4..]);
            images.upload().unwrap();
            let tensor = images.tensor().unwrap();
            assert_eq!((tensor.dims(), tensor.to_vec().unwrap()), (&[2, 2, 1, 2][..], values.clone()));
            assert_eq!(images.clone().into_vec(), values);
        }
    }

    #[test]
    fn pixels_that_do_not_fill_the_shape_are_refused() {
        let message = |images: Images| images.upload().unwrap_err().to_string();
        assert!(message(Images::from_vec(vec![0.0; 5], (1, 3, 1, 2))).contains("5 pixels do not fill"));
        let grey = Pixels::Bytes(vec![0; 6].into(), Normalization::identity(1));
        assert!(message(Images::new(grey, (1, 3, 1, 2))).contains("6 pixels do not fill"));
    }
}
