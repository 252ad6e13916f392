//! Samples, batches, targets and image operations.

mod batch;
pub mod boxes;
mod decode;
mod error;
mod file;
mod geometry;
mod jpeg;
mod labels;
mod passed_over;
mod pixels;
mod raster;
mod resize;
mod sample;
mod size;
mod target;
mod tiff;
pub mod walk;

pub use crate::nn::Normalization;
pub use batch::Batch;
pub use decode::{decode, read_image, read_rgb};
pub use error::DataError;
pub use file::{
    IMAGE_EXTENSIONS, LABEL_MAP_EXTENSIONS, MAX_FILE, check_size, composed, has_extension, read_file,
};
pub use labels::read_labels;
pub use passed_over::PassedOver;
pub use pixels::Pixels;
pub use raster::Raster;
pub use resize::{Interpolation, nearest, resize};
pub use sample::{Original, Sample};
pub use size::{CropBox, MAX_PIXELS, MAX_SIDE, Size};
pub use target::{IGNORED, Instances, Mask, Mixed, Rle, RleError, Target};
