//! What heads of detection are made of: the parts of detectron2's `modeling` and `structures` that compute on boxes and masks.
//!
//! A box is `[x0, y0, x1, y1]` in pixels, the end exclusive. Everything is in `f32` where detectron2 computes in it, in the same
//! order, so that decisions (which box matches, which is suppressed) are the same.

pub mod anchors;
pub mod box_coder;
pub mod boxes;
pub mod conv;
pub mod detections;
pub mod losses;
pub mod mask_targets;
pub mod matcher;
pub mod nms;
pub mod proposals;
pub mod roi_pooler;
pub mod sampler;
pub mod targets;
#[cfg(test)]
pub(crate) mod testing;
