//! Heads: features to losses and predictions.

mod classification_head;
mod classifier;
mod linear_probe_head;
mod mae_decoder;

pub use classification_head::ClassificationHead;
pub use classifier::Pool;
pub use linear_probe_head::LinearProbeHead;
pub use mae_decoder::MaeDecoder;
