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

pub use batch::Batch;
pub use decode::{MAX_PIXELS, decode, read_image};
pub use geometry::CropBox;
pub use labels::read_labels;
pub use loader::{CorruptSample, Epoch, Loader, LoaderOptions};
pub use pipeline::{Pipeline, output_shape};
pub use resize::{Interpolation, nearest, resize};
pub use sample::{IGNORED, Instance, Mixed, Normalization, Pixels, Sample, Target};
pub use size::{MAX_SIDE, Size};
