//! Transformer blocks, drop path rates and position embeddings, for backbones and decoders.

use convmae_framework::component::Problem;
use convmae_framework::nn::layers::{Block, BlockConfig};
use convmae_framework::nn::position::sin_cos_table;
use convmae_framework::nn::{Init, Param, Positions, Scope};

/// Epsilon of the transformer's LayerNorms; those of the convolutional stages have PyTorch's default.
pub const TRANSFORMER_EPS: f32 = 1e-6;

/// `torch.linspace(0, max, depth)`.
pub fn drop_path_rates(max: f32, depth: usize) -> Vec<f32> {
    (0..depth).map(|block| max * block as f32 / (depth.max(2) - 1) as f32).collect()
}

/// A parameter that starts as a sin-cos table, `[1, prefix + rows * cols, dim]`.
pub fn position_embedding(
    scope: &Scope,
    name: &str,
    (rows, cols): (usize, usize),
    dim: usize,
    prefix: usize,
    trained: bool,
) -> Result<Param, Problem> {
    let table = match scope.allocates() {
        true => sin_cos_table(rows, cols, dim, prefix)
            .map_err(|error| Problem::new("embed_dim", error.to_string()))?,
        false => Vec::new(),
    };
    let scope = scope.at_positions(Positions { prefix, rows, cols });
    let (shape, table) = ([1, prefix + rows * cols, dim], Init::Values(table));
    Ok(match trained {
        true => scope.param(name, &shape, &table),
        false => scope.frozen(name, &shape, &table),
    })
}

/// Plain blocks: epsilon [`TRANSFORMER_EPS`], no layer scale, no relative positions.
pub fn plain_blocks(heads: usize, mlp_ratio: f32) -> BlockConfig {
    let (init_values, relative_positions) = (None, None);
    BlockConfig { heads, mlp_ratio, eps: TRANSFORMER_EPS, drop_path: 0.0, init_values, relative_positions }
}

/// Transformer blocks, one for every rate of stochastic depth, each a layer of its own if `scope` is at one.
pub fn transformer_blocks(
    scope: &Scope,
    dim: usize,
    config: &BlockConfig,
    rates: &[f32],
) -> Result<Vec<Block>, Problem> {
    let block = |(at, &drop_path)| {
        let config = BlockConfig { drop_path, ..*config };
        Block::new(&scope.child(at).deeper(at), dim, &config)
            .map_err(|error| Problem::new("num_heads", error.to_string()))
    };
    rates.iter().enumerate().map(block).collect()
}
