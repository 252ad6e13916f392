//! Modules: parameters and operations under the names of the official checkpoints.

mod attention;
mod batch_norm;
mod block;
mod conv2d;
mod conv_block;
mod conv_module;
mod drop_path;
mod layer_norm;
mod linear;
mod mlp;
mod patch_embed;

pub use attention::Attention;
pub use batch_norm::BatchNorm;
pub use block::{Block, BlockConfig};
pub use conv_block::{ConvBlock, ConvBlockConfig};
pub use conv_module::ConvModule;
pub use conv2d::Conv2d;
pub use drop_path::{DropPath, Dropout, Dropout2d};
pub use layer_norm::LayerNorm;
pub use linear::Linear;
pub use mlp::Mlp;
pub use patch_embed::{MergeConv, PatchEmbed};
