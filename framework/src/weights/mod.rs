//! Weights files: safetensors and PyTorch checkpoints.

/// Placeholder until the weights branch lands.
#[derive(Debug, Clone, Default)]
pub struct TensorMap;
