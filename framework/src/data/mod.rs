//! Samples, batches, image operations, and the loader.

mod batch;
mod decode;
mod geometry;
mod jpeg;
mod labels;
mod loader;
mod pipeline;
mod queue;
mod resize;
mod sample;
mod size;
mod target;

pub use batch::Batch;
pub use decode::{MAX_PIXELS, decode, read_image};
pub use geometry::CropBox;
pub use labels::read_labels;
pub use loader::{CorruptSample, Epoch, Loader, LoaderOptions};
pub use pipeline::{Pipeline, output_shape};
pub use resize::{Interpolation, nearest, resize};
pub use sample::{Normalization, Pixels, Sample};
pub use size::{MAX_SIDE, Size};
pub use target::{IGNORED, Instances, Mask, Mixed, Rle, Target, bounds};
