//! Evaluators: losses and predictions to metrics.

mod reconstruction_loss;

pub use reconstruction_loss::ReconstructionLoss;
