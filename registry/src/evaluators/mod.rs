//! Evaluators: losses, predictions and features to metrics.

mod accuracy;
mod coco_ap;
mod knn_accuracy;
mod mean_iou;
mod pixel_error;
mod reconstruction_loss;

pub use accuracy::Accuracy;
pub use coco_ap::CocoAp;
pub use knn_accuracy::KnnAccuracy;
pub use mean_iou::MeanIoU;
pub use pixel_error::PixelError;
pub use reconstruction_loss::ReconstructionLoss;
