//! Modules: parameters and operations under the names of the official checkpoints.

mod attention;
mod block;
mod drop_path;
mod layer_norm;
mod linear;
mod mlp;

pub use attention::Attention;
pub use block::{Block, BlockConfig};
pub use drop_path::{DropPath, Dropout};
pub use layer_norm::LayerNorm;
pub use linear::Linear;
pub use mlp::Mlp;
