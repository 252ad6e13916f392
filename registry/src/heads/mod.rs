//! Heads: features to losses and predictions.

mod mae_decoder;

pub use mae_decoder::MaeDecoder;
