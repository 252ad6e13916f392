//! Layers: parameters under the names of the official checkpoints, and what is computed with them.
//!
//! A layer is one struct: `new(scope)` makes and initialises its parameters, `forward(x, ctx)` puts it on the tape. As a
//! [`crate::ops::Layer`] it joins others in a [`crate::ops::Sequential`], which is one operation on the tape. A block is a
//! [`Residual`] around a [`Branch`], of which there may be more than those here.

mod attention;
mod attention_map;
mod batch_norm;
mod block;
mod conv2d;
mod conv_block;
mod conv_module;
mod conv_transpose2d;
mod depthwise;
mod dropout;
mod layer_norm;
mod linear;
mod mlp;
mod patch_embed;
mod relative_positions;
mod residual;
pub mod running_statistics;
pub mod shared_statistics;
mod windows;

pub use attention::Attention;
pub use batch_norm::BatchNorm;
pub use block::{Block, BlockConfig};
pub use conv_block::{ConvBlock, ConvBlockConfig};
pub use conv_module::ConvModule;
pub use conv_transpose2d::ConvTranspose2d;
pub use conv2d::Conv2d;
pub use depthwise::DepthwiseConv2d;
pub use dropout::{DropPath, Dropout, Dropout2d};
pub use layer_norm::LayerNorm;
pub use linear::Linear;
pub use mlp::Mlp;
pub use patch_embed::{MergeConv, PatchEmbed};
pub use relative_positions::RelativePositions;
pub use residual::{Branch, Residual};
pub use windows::Windows;

pub use crate::backend::conv2d::Window;
