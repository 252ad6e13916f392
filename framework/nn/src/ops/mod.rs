//! Operations: kernels of the [`crate::backend`] on the tape.
//!
//! A function puts one operation on the tape of its inputs. A [`Layer`] is an operation of one input that can also be a part of a larger
//! one ([`Sequential`]).

mod activation;
mod concat;
mod cross_entropy;
mod elementwise;
mod layer;
mod loss;
mod maps;
mod max_pool;
mod operation;
mod patches;
mod pointwise_loss;
mod pool;
mod resample;
mod resized_positions;
mod roi_align;
mod sequential;
mod tokens;

pub use activation::{Gelu, Relu, gelu, relu};
pub use concat::concat_channels;
pub use cross_entropy::{ClassTarget, Criterion, Reduction, cross_entropy};
pub use elementwise::{add, dropout, scale_channels, scale_samples};
pub use layer::{Layer, LayerBackward, Pass, apply};
pub use loss::{PatchTarget, masked_mse};
pub use maps::{to_maps, to_tokens};
pub use max_pool::max_pool2d;
pub use operation::{Backward, operation};
pub use patches::{MergeCells, image_patches};
pub use pointwise_loss::{ValueTarget, binary_cross_entropy_with_logits, smooth_l1};
pub use pool::mean_tokens;
pub use resample::{adaptive_avg_pool2d, resize_bilinear, resize_nearest};
pub use resized_positions::AddResizedPositions;
pub use roi_align::{Roi, roi_align};
pub use sequential::Sequential;
pub use tokens::{
    AddPositions, DropPrefix, GatherTokens, PrependToken, RestoreTokens, drop_prefix, gather_tokens,
};
