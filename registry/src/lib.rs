//! The components of convmae, one per file.
