//! Evaluators: losses and predictions to metrics.

mod accuracy;
mod pixel_error;
mod reconstruction_loss;

pub use accuracy::Accuracy;
pub use pixel_error::PixelError;
pub use reconstruction_loss::ReconstructionLoss;
