//! What a block of a backbone attends to, as pictures.

use image::{Rgb, RgbImage};

use super::EngineError;
use super::features::model_of_features;
use crate::component::{LevelShape, Picture};
use crate::data::{Batch, CropBox, Interpolation, resize};
use crate::graph::Model;
use crate::nn::{Context, Param, Scope};
use crate::recipe::Recipe;

/// The entry of the parameters of an attention by which it is known.
const QKV: &str = ".attn.qkv.weight";
/// From least to most: five colours of matplotlib's `inferno`.
const COLORS: [[u8; 3]; 5] = [[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]];

/// A backbone with a block of it whose attention is shown.
pub struct AttentionPictures {
    model: Model,
    block: String,
}

impl AttentionPictures {
    /// Of a block by the names of its parameters, `blocks3.10`, on whole images, with the weights of a model.
    ///
    /// # Errors
    /// If the model has no such block with self-attention.
    pub fn new(recipe: &Recipe, model: &Model, block: &str) -> Result<Self, EngineError> {
        let whole = model_of_features(recipe, model.image, &Scope::sharing(&model.params()))?;
        let params = whole.params();
        let mut blocks = params.iter().map(Param::name).filter_map(|name| name.strip_suffix(QKV));
        if blocks.clone().any(|known| known == block) {
            return Ok(Self { model: whole, block: block.to_owned() });
        }
        let message = match (blocks.next(), blocks.next_back()) {
            (Some(first), Some(last)) => {
                format!("the model has no block `{block}` with self-attention; it has `{first}` to `{last}`")
            }
            (Some(only), None) => {
                format!("the model has no block `{block}`; its only one with self-attention is `{only}`")
            }
            (None, _) => "the model has no block with self-attention".to_owned(),
        };
        Err(EngineError::Usage(message))
    }

    /// For each image how much every patch is attended to: by the cls token if there is one, else by all patches on average; the mean of
    /// the heads, and each head. Colours are scaled to the patch that is attended to most.
    pub fn of(&self, batch: &Batch, ctx: Context) -> Result<Vec<Vec<Picture>>, EngineError> {
        let ctx = ctx.recording_attention(&format!("{}.attn", self.block));
        self.model.forward(batch, &ctx)?;
        let unknown = || {
            EngineError::Usage(format!(
                "`{}` attends within windows, or with a bias by position, which cannot be shown",
                self.block
            ))
        };
        let (_, (shape, values)) = ctx.into_records().into_iter().next().ok_or_else(unknown)?;
        let &[_, heads, tokens, _] = shape.as_slice() else { return Err(unknown()) };
        let level = self.grid(tokens).ok_or_else(unknown)?;
        let row = |(at, image): (usize, &[f32])| {
            let heads: Vec<Vec<f32>> = image
                .chunks_exact(tokens * tokens)
                .map(|head| attended(head, tokens, level.prefix_tokens))
                .collect();
            let mean: Vec<f32> = (0..level.positions())
                .map(|patch| heads.iter().map(|head| head[patch]).sum::<f32>() / heads.len() as f32)
                .collect();
            let picture = |(head, values): (usize, &Vec<f32>)| {
                let caption = match head {
                    0 => format!("attention {}", self.block),
                    head => format!("attention {} head {}", self.block, head - 1),
                };
                Picture::new(caption, drawn(batch.picture(at), values, &level))
            };
            std::iter::once(&mean).chain(&heads).enumerate().map(picture).collect()
        };
        Ok(values.chunks_exact(heads * tokens * tokens).enumerate().map(row).collect())
    }

    /// The level whose patches are so many tokens.
    fn grid(&self, tokens: usize) -> Option<LevelShape> {
        let mut levels = self.model.levels_by_node().into_iter().flat_map(|(_, levels)| levels);
        levels.find(|level| level.cell == 1 && level.tokens() == tokens)
    }
}

/// How much each patch is attended to, of `[N, N]`.
fn attended(head: &[f32], tokens: usize, prefix: usize) -> Vec<f32> {
    let queries = if prefix > 0 { 1 } else { tokens };
    let mean =
        |token: usize| (0..queries).map(|query| head[query * tokens + token]).sum::<f32>() / queries as f32;
    (prefix..tokens).map(mean).collect()
}

/// Colours of values on the grid of a level, half transparent over an image.
fn drawn(mut image: RgbImage, values: &[f32], level: &LevelShape) -> RgbImage {
    let most = values.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
    let at = |x: u32, y: u32| Rgb(color(values[y as usize * level.cols + x as usize] / most));
    let map = RgbImage::from_fn(level.cols as u32, level.rows as u32, at);
    let (height, width) = (image.height() as usize, image.width() as usize);
    let whole = CropBox::whole(level.rows, level.cols);
    let map = resize(&map, whole, height, width, Interpolation::Bilinear);
    for (pixel, over) in image.pixels_mut().zip(map.pixels()) {
        pixel.0 = std::array::from_fn(|channel| u8::midpoint(pixel.0[channel], over.0[channel]));
    }
    image
}

/// Of a value between 0 and 1.
fn color(value: f32) -> [u8; 3] {
    let place = value.clamp(0.0, 1.0) * (COLORS.len() - 1) as f32;
    let below = (place as usize).min(COLORS.len() - 2);
    let share = place - below as f32;
    std::array::from_fn(|channel| {
        let [low, high] = [COLORS[below][channel], COLORS[below + 1][channel]].map(f32::from);
        (low + share * (high - low)).round() as u8
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cls_token_tells_for_itself_and_patches_on_average() {
        let head = [0.5, 0.3, 0.2, 0.1, 0.8, 0.1, 0.0, 0.1, 0.9];
        assert_eq!(attended(&head, 3, 1), [0.3, 0.2]);
        let mean = attended(&head, 3, 0);
        assert!(mean.iter().zip([0.2, 0.4, 0.4]).all(|(found, expected)| (found - expected).abs() < 1e-6));
    }

    #[test]
    fn colours_go_from_dark_to_bright() {
        let bright = |value| color(value).map(u32::from).iter().sum::<u32>();
        let levels = [0.0, 0.25, 0.4, 0.6, 1.0].map(bright);
        assert!(levels.is_sorted(), "{levels:?}");
        assert_eq!((color(0.0), color(0.5), color(1.0)), (COLORS[0], COLORS[2], COLORS[4]));
    }
}
