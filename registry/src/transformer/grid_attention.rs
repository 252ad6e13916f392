//! Attention among the tokens of a grid: within windows, and by relative position.

use convmae_framework::component::Problem;
use convmae_framework::nn::Scope;
use convmae_framework::nn::layers::{BlockConfig, RelativePositions, Windows};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Attention within windows of the grid of tokens, which a few blocks leave to all tokens (`ViTDet`, Li et
/// al. 2022).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WindowAttention {
    /// Tokens along each side of a window. Where windows reach beyond the grid they hold zeros, which are
    /// attended to.
    #[schemars(range(min = 1, max = 65536))]
    pub size: usize,
    /// The blocks, counted from 0, that attend to all tokens.
    pub global_blocks: Vec<usize>,
}

/// What attention scores learn about the offset of a query from a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RelativePositionKind {
    /// Nothing.
    #[default]
    None,
    /// In each block a bias for every offset and head (`relative_position_bias_table`; Swin, `BEiT`), and three for
    /// a cls token: as the query of any other token, as the key of any other, and as both.
    Bias,
    /// The same, shared by all blocks with windows (`windowed_rel_pos_bias`) and by all others
    /// (`global_rel_pos_bias`; `MIMDet`).
    SharedBias,
    /// In each block products of the query with an embedding of the offset in rows and one of that in columns
    /// (`rel_pos_h`, `rel_pos_w`; `MViTv2`, `ViTDet`).
    Decomposed,
}

/// How the blocks of a backbone attend to the tokens of a grid.
pub struct GridAttention<'a> {
    /// Rows and columns.
    pub grid: (usize, usize),
    /// Whether a cls token comes before those of the grid; with a bias only.
    pub cls_token: bool,
    /// Within windows.
    pub window: Option<&'a WindowAttention>,
    /// By relative position.
    pub positions: RelativePositionKind,
}

impl<'a> GridAttention<'a> {
    /// What each of `depth` blocks gets beside `config`, by its number and scope; tables that blocks share
    /// are at `scope`.
    pub fn configure(
        self,
        scope: &Scope,
        dim: usize,
        depth: usize,
        config: BlockConfig,
    ) -> Result<impl Fn(usize, &Scope) -> BlockConfig + use<'a>, Problem> {
        if let Some(&block) = self.global_blocks().iter().find(|&&block| block >= depth) {
            let message = format!("there is no block {block}: the stage has {depth}, counted from 0");
            return Err(Problem::new("window.global_blocks", message));
        }
        let shared = |kind: &str, windowed: bool| {
            let is_used = (0..depth).any(|at| self.windows(at).is_some() == windowed);
            let table = || RelativePositions::bias(&scope.child(kind), config.heads, self.attended(windowed));
            (is_used && self.positions == RelativePositionKind::SharedBias).then(table)
        };
        let shared = [shared("global_rel_pos_bias", false), shared("windowed_rel_pos_bias", true)];
        Ok(move |at: usize, scope: &Scope| {
            let (windows, scope) = (self.windows(at), scope.child("attn"));
            let grid = self.attended(windows.is_some());
            let relative_positions = match self.positions {
                RelativePositionKind::None => None,
                RelativePositionKind::Bias if self.cls_token => {
                    Some(RelativePositions::bias_with_cls_token(&scope, config.heads, grid))
                }
                RelativePositionKind::Bias => Some(RelativePositions::bias(&scope, config.heads, grid)),
                RelativePositionKind::SharedBias => shared[usize::from(windows.is_some())].clone(),
                RelativePositionKind::Decomposed => {
                    Some(RelativePositions::decomposed(&scope, dim / config.heads, grid))
                }
            };
            BlockConfig { windows, relative_positions, ..config.clone() }
        })
    }

    fn global_blocks(&self) -> &[usize] {
        self.window.map_or(&[], |window| &window.global_blocks)
    }

    /// Of a block, if it attends within windows.
    fn windows(&self, block: usize) -> Option<Windows> {
        let window = self.window.filter(|window| !window.global_blocks.contains(&block))?;
        Some(Windows { grid: self.grid, side: window.size })
    }

    /// Rows and columns of what a token attends to, within a window or without.
    fn attended(&self, windowed: bool) -> (usize, usize) {
        match self.window {
            Some(window) if windowed => (window.size, window.size),
            _ => self.grid,
        }
    }
}
