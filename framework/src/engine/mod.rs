//! Training and evaluation loops, checkpoints, resume.

pub mod checkpoint;
