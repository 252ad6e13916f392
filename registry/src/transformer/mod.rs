//! Transformer blocks, drop path rates and position embeddings, for backbones and decoders.

mod grid_attention;
mod initial_values;
mod position_embedding;

pub use grid_attention::{GridAttention, RelativePositionKind, WindowAttention};
pub use initial_values::InitialValues;
#[cfg(test)]
pub(crate) use initial_values::assert_trunc_normal;
pub use position_embedding::{PositionEmbedding, position_embedding};

use convmae_framework::component::Problem;
use convmae_framework::nn::Scope;
use convmae_framework::nn::layers::{Block, BlockConfig};

/// Epsilon of the transformer's LayerNorms; those of the convolutional stages have PyTorch's default.
pub const TRANSFORMER_EPS: f32 = 1e-6;

/// `torch.linspace(0, max, depth)`.
pub fn drop_path_rates(max: f32, depth: usize) -> Vec<f32> {
    (0..depth).map(|block| max * block as f32 / (depth.max(2) - 1) as f32).collect()
}

/// Plain blocks: epsilon [`TRANSFORMER_EPS`], no layer scale, of all tokens to all without relative
/// positions.
pub fn plain_blocks(heads: usize, mlp_ratio: f32) -> BlockConfig {
    BlockConfig {
        heads,
        mlp_ratio,
        eps: TRANSFORMER_EPS,
        drop_path: 0.0,
        init_values: None,
        windows: None,
        relative_positions: None,
    }
}

/// Transformer blocks, one for every rate of stochastic depth, each a layer of its own if `scope` is at one;
/// `config` gets the number of a block and its scope.
pub fn transformer_blocks(
    scope: &Scope,
    dim: usize,
    rates: &[f32],
    config: impl Fn(usize, &Scope) -> BlockConfig,
) -> Result<Vec<Block>, Problem> {
    let block = |(at, &drop_path)| {
        let scope = scope.child(at).deeper(at);
        let config = BlockConfig { drop_path, ..config(at, &scope) };
        Block::new(&scope, dim, &config).map_err(|error| Problem::new("num_heads", error.to_string()))
    };
    rates.iter().enumerate().map(block).collect()
}
