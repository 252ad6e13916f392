//! The components of this crate, one per file.

mod checkerboard_masker;
mod mean_color_head;
mod projection_neck;

pub use checkerboard_masker::CheckerboardMasker;
pub use mean_color_head::MeanColorHead;
pub use projection_neck::ProjectionNeck;
