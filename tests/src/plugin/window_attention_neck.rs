//! A neck of transformer blocks with attention within windows.

use convmae_framework::component::{
    Features, ImageShape, Level, LevelShape, Macs, Neck, NeckModule, Problem,
};
use convmae_framework::nn::layers::{LayerNorm, Mlp, Residual};
use convmae_framework::nn::ops::Sequential;
use convmae_framework::nn::{self, Context, Scope};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::window_attention::WindowAttention;

/// A block with attention within windows on the last level; the others stay as they are.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WindowAttentionNeck {
    /// Number of attention heads.
    #[schemars(range(min = 1))]
    pub num_heads: usize,
    /// Tokens along each side of a window; it divides those of the level.
    #[schemars(range(min = 1))]
    pub window_size: usize,
}

#[typetag::serde]
impl Neck for WindowAttentionNeck {
    fn build(
        &self,
        scope: &Scope,
        _: ImageShape,
        levels: &[LevelShape],
    ) -> Result<Box<dyn NeckModule>, Problem> {
        let Some(last) = levels.last() else { return Err(Problem::new("", "there is no level")) };
        if last.kept < last.rows * last.cols || last.prefix_tokens > 0 || last.cell != 1 {
            return Err(Problem::new("", "windows need all tokens of a grid, and nothing else")
                .help("take them from a backbone without a masker and without a cls token"));
        }
        let (scope, dim, grid) = (scope.child("block"), last.channels, [last.rows, last.cols]);
        let attn = WindowAttention::new(&scope.child("attn"), dim, self.num_heads, grid, self.window_size)
            .map_err(|error| Problem::new("window_size", error.to_string()))?;
        Ok(Box::new(WindowBlock {
            levels: levels.to_vec(),
            norm1: LayerNorm::new(&scope.child("norm1"), dim, 1e-6),
            attn,
            norm2: LayerNorm::new(&scope.child("norm2"), dim, 1e-6),
            mlp: Mlp::new(&scope.child("mlp"), dim, 4 * dim),
        }))
    }
}

convmae_framework::register!(Neck: WindowAttentionNeck);

struct WindowBlock {
    levels: Vec<LevelShape>,
    norm1: LayerNorm,
    attn: WindowAttention,
    norm2: LayerNorm,
    mlp: Mlp,
}

impl NeckModule for WindowBlock {
    fn levels(&self) -> Vec<LevelShape> {
        self.levels.clone()
    }

    fn macs(&self) -> Macs {
        let tokens = self.levels.last().map_or(0, LevelShape::tokens);
        Macs::same(self.attn.macs() + self.mlp.macs(tokens))
    }

    fn forward(&self, features: &Features, ctx: &Context) -> nn::Result<Features> {
        let mut levels: Vec<Level> = features.levels.clone();
        if let Some(last) = levels.last_mut() {
            last.tokens = Sequential::new()
                .then(Residual::new(&self.norm1, self.attn.clone()))
                .then(Residual::new(&self.norm2, self.mlp.clone()))
                .forward(last.tokens.clone(), ctx)?;
        }
        Ok(Features { levels, mask: features.mask.clone() })
    }
}
