//! The components of convmae, one per file.

pub mod datasets;
pub mod transforms;
