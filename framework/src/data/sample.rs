//! One image with its targets.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{DataError, Instances, Pixels, Target};

/// One image with its targets.
#[derive(Debug, Clone)]
pub struct Sample {
    /// What the image is called in messages: its path.
    pub id: String,
    /// The image.
    pub pixels: Pixels,
    /// What is to be predicted.
    pub target: Target,
    /// What it was before any transform.
    pub original: Original,
}

/// An image as it was read: what detections are compared with, and put out for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Original {
    /// Height and width in pixels.
    pub size: [usize; 2],
    /// The annotated objects.
    pub instances: Arc<Instances>,
    /// Its number in the annotations (COCO's `image_id`); where these give it none, the loader gives it its index in the dataset.
    pub image_id: Option<u64>,
}

impl Original {
    /// An image of a height and a width with the objects of a target that nothing has transformed.
    pub fn of(size: [usize; 2], target: &Target) -> Self {
        Self { size, instances: Arc::new(target.instances.clone()), image_id: None }
    }

    /// How much larger it is, down and across, than what the transforms made of it.
    pub fn scale(&self, transformed: [usize; 2]) -> [f64; 2] {
        std::array::from_fn(|axis| self.size[axis] as f64 / transformed[axis] as f64)
    }
}

impl Sample {
    /// An image as it was read.
    pub fn new(id: String, image: impl Into<Pixels>, target: Target) -> Self {
        let pixels = image.into();
        let (height, width) = pixels.size();
        Self { id, original: Original::of([height, width], &target), pixels, target }
    }

    /// With as many channels as a model takes: see [`Pixels::with_channels`]. Of the first image whose alpha
    /// is not opaque it is said that it is left out.
    ///
    /// # Errors
    /// [`DataError::Corrupt`] if its channels cannot become those.
    pub fn with_channels(self, channels: usize) -> Result<Self, DataError> {
        static TOLD: AtomicBool = AtomicBool::new(false);
        let Self { id, pixels, target, original } = self;
        if !TOLD.load(Ordering::Relaxed) && pixels.would_lose(channels) && !TOLD.swap(true, Ordering::Relaxed)
        {
            let read = pixels.channels();
            tracing::warn!(
                "{id}: of its {read} channels the last is left out, which is not the same everywhere: is it data? \
                 `image_channels: {read}` reads it"
            );
        }
        let pixels = pixels
            .with_channels(channels)
            .map_err(|reason| DataError::Corrupt { path: (&id).into(), reason })?;
        Ok(Self { id, pixels, target, original })
    }
}
