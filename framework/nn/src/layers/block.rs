//! The transformer block.

use super::attention_map::AttentionMap;
use super::{Attention, DropPath, LayerNorm, Mlp, RelativePositions, Residual, Windows};
use crate::error::Result;
use crate::ops::Sequential;
use crate::{Context, Init, Param, Scope};

/// What a [`Block`] is made of.
#[derive(Debug, Clone)]
pub struct BlockConfig {
    /// Number of attention heads.
    pub heads: usize,
    /// Width of the MLP in relation to that of the block; the width is rounded down.
    pub mlp_ratio: f32,
    /// Of both `LayerNorm`s.
    pub eps: f32,
    /// Probability to drop each of the two branches.
    pub drop_path: f32,
    /// Initial value of the factors of both branches' channels (layer scale, `gamma_1` and `gamma_2`); without it there are none.
    pub init_values: Option<f32>,
    /// What the tokens attend within; without them to all.
    pub windows: Option<Windows>,
    /// A bias of the attention by relative position.
    pub relative_positions: Option<RelativePositions>,
}

/// A pre-norm transformer block: `x += gamma_1 * attn(norm1(x))`, then `x += gamma_2 * mlp(norm2(x))`.
#[derive(Debug, Clone)]
pub struct Block {
    norm1: LayerNorm,
    attn: Attention,
    norm2: LayerNorm,
    mlp: Mlp,
    drop_path: DropPath,
    gamma: Option<[Param; 2]>,
}

impl Block {
    /// A block of width `dim`.
    ///
    /// # Errors
    /// If the number of heads does not divide `dim`.
    pub fn new(scope: &Scope, dim: usize, config: &BlockConfig) -> Result<Self> {
        let (hidden, first) = ((dim as f32 * config.mlp_ratio) as usize, scope.count());
        let gamma =
            |value| ["gamma_1", "gamma_2"].map(|name| scope.param(name, &[dim], &Init::Constant(value)));
        Ok(Self {
            norm1: LayerNorm::new(&scope.child("norm1"), dim, config.eps),
            attn: Attention::new(&scope.child("attn"), dim, config.heads)?
                .within(config.windows)
                .with_positions(config.relative_positions.clone()),
            norm2: LayerNorm::new(&scope.child("norm2"), dim, config.eps),
            mlp: Mlp::new(&scope.child("mlp"), dim, hidden),
            gamma: config.init_values.map(gamma),
            drop_path: DropPath::of_block(config.drop_path, scope, first),
        })
    }

    /// Its two halves, on `batch` images: `[B, N, D]` to `[B, N, D]`.
    pub fn layers(&self, batch: usize, ctx: &Context) -> Sequential {
        let [gamma_1, gamma_2] = self.gamma.as_ref().map_or([None; 2], |gamma| gamma.each_ref().map(Some));
        let drop_scale = || self.drop_path.scale(batch, ctx);
        let map = AttentionMap::wanted(&self.norm1, &self.attn, ctx);
        let attn = Residual::new(&self.norm1, self.attn.clone()).layer_scale(gamma_1).drop_path(drop_scale());
        let mlp = Residual::new(&self.norm2, self.mlp.clone()).layer_scale(gamma_2).drop_path(drop_scale());
        Sequential::new().then_all(map).then(attn).then(mlp)
    }

    /// Multiply-accumulates for one image of that many tokens.
    pub fn macs(&self, tokens: usize) -> u64 {
        self.attn.macs(tokens) + self.mlp.macs(tokens)
    }
}

#[cfg(test)]
mod tests {
    use safetensors::SafeTensors;

    use super::*;
    use crate::error::Error;
    use crate::random::{Purpose, stream};
    use crate::tensor::Tensor;
    use crate::testing::{assert_close, wide};

    const CONFIG: BlockConfig = BlockConfig {
        heads: 4,
        mlp_ratio: 4.0,
        eps: 1e-6,
        drop_path: 0.0,
        init_values: None,
        windows: None,
        relative_positions: None,
    };

    /// `blocks3` of a narrow model, with its input and output, from the official implementation.
    const GOLDEN: &[u8] =
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/blocks3.safetensors"));

    #[test]
    fn two_blocks_equal_the_official_implementation() {
        let golden = SafeTensors::deserialize(GOLDEN).unwrap();
        let values =
            |name: &str| -> Vec<f32> { bytemuck::pod_collect_to_vec(golden.tensor(name).unwrap().data()) };
        let scope = Scope::new(0);
        let blocks = [0, 1].map(|i| Block::new(&scope.child("blocks3").child(i), 24, &CONFIG).unwrap());
        for param in scope.params() {
            assert_eq!(golden.tensor(param.name()).unwrap().shape(), param.shape());
            param.set(&values(param.name())).unwrap();
        }
        assert_eq!(scope.params().len() + 2, golden.len());

        let ctx = Context::eval(stream(Purpose::Evaluate, &[0]));
        let x = Tensor::from_vec(values("tokens_in_blocks3"), (2, 49, 24), &ctx.tape).unwrap();
        let stage = Sequential::new().then_all(blocks.iter().map(|block| block.layers(2, &ctx)));
        let x = stage.forward(x, &ctx).unwrap();
        assert_close(&x.to_vec().unwrap(), &wide(&values("tokens_out_blocks3")), 1e-6);
    }

    #[test]
    fn heads_that_do_not_divide_the_width_are_refused() {
        let config = BlockConfig { heads: 5, ..CONFIG };
        assert!(matches!(Block::new(&Scope::describe(), 24, &config), Err(Error::Value(_))));
    }

    #[test]
    fn macs_of_the_base_model_are_those_of_the_formula() {
        let block = Block::new(&Scope::describe(), 768, &BlockConfig { heads: 12, ..CONFIG }).unwrap();
        assert_eq!(block.macs(196), 196 * 12 * 768 * 768 + 2 * 196 * 196 * 768);
    }
}
