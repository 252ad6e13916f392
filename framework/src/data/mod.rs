//! Samples, batches, targets and image operations.

mod batch;
pub mod boxes;
mod decode;
mod error;
mod geometry;
mod jpeg;
mod labels;
mod resize;
mod sample;
mod size;
mod target;

pub use batch::Batch;
pub use decode::{decode, read_image};
pub use error::DataError;
pub use labels::read_labels;
pub use resize::{Interpolation, nearest, resize};
pub use sample::{Normalization, Original, Pixels, Sample};
pub use size::{CropBox, MAX_PIXELS, MAX_SIDE, Size};
pub use target::{IGNORED, Instances, Mask, Mixed, Rle, RleError, Target};
