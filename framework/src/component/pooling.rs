//! What of the tokens of a level stands for an image.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Level, LevelShape};
use crate::nn::{Result, Tensor, ops};

/// What of the tokens of a level stands for an image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Pooling {
    /// The mean over the patches, without a cls token.
    #[default]
    Mean,
    /// The first token: the cls token of a `ViT` that has one, else the top left patch.
    FirstToken,
    /// All of them, one by one, a cls token first; of a level with several positions for each patch in the order of
    /// the image, row by row.
    None,
}

impl Pooling {
    /// `[B, 1, C]`, or all tokens `[B, N, C]`.
    ///
    /// # Errors
    /// If there is no token, or of all tokens some are masked.
    pub fn apply(self, level: &Level) -> Result<Tensor> {
        let LevelShape { prefix_tokens, cell, .. } = level.shape;
        let (batch, ..) = level.tokens.dims3()?;
        match self {
            Self::Mean => ops::mean_tokens(ops::drop_prefix(level.tokens.clone(), prefix_tokens)?),
            Self::FirstToken => ops::gather_tokens(level.tokens.clone(), &vec![0; batch]),
            Self::None if cell == 1 => Ok(level.tokens.clone()),
            Self::None => ops::to_tokens(level.maps()?),
        }
    }
}
