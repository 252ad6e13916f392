//! Training and evaluation loops, checkpoints, resume.
