//! Oracles of tests: layers and operations composed of dfdx's operations, in the plainest way.

mod activation;
mod attention;
mod batch_norm;
mod concat;
mod conv2d;
mod cross_entropy;
mod depthwise;
mod elementwise;
mod layer_norm;
mod linear;
mod loss;
mod patches;
mod pool;
mod resample;
mod rows;
mod tokens;

pub use activation::{gelu, relu};
pub use attention::attention;
pub use batch_norm::batch_norm;
pub use concat::concat_channels;
pub use conv2d::conv2d;
pub use cross_entropy::cross_entropy;
pub use depthwise::depthwise;
pub use elementwise::{add, dropout, scale, scale_branch, scale_channels, scale_samples};
pub use layer_norm::layer_norm;
pub use linear::linear;
pub use loss::masked_mse;
pub use patches::merge_cells;
pub use pool::mean_tokens;
pub use resample::resample;
pub use tokens::{add_rows, take_rows};
