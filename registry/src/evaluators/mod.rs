//! Evaluators: losses and predictions to metrics.

mod accuracy;
mod coco_ap;
mod mean_iou;
mod pixel_error;
mod reconstruction_loss;

pub use accuracy::Accuracy;
pub use coco_ap::CocoAp;
pub use mean_iou::MeanIoU;
pub use pixel_error::PixelError;
pub use reconstruction_loss::ReconstructionLoss;
