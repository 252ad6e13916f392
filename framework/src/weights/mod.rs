//! Weights files: safetensors and PyTorch checkpoints.

