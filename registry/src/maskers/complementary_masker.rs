//! Complementary masks: every token is visible under exactly one of an image's masks.

use convmae_framework::component::{Mask, MaskGrid, MaskPlan, Masker, Problem};
use convmae_framework::nn::{Context, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Splits the tokens of the last stage at random into equal shares, and sees each image under as many masks, each of which
/// keeps another share (`random_masking` of `models_fastconvmae.py` of Alpha-VL/FastConvMAE). Block-wise at earlier stages.
///
/// The loss is the mean of those under each mask alone. A backbone that computes kept patches only computes every patch
/// once.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ComplementaryMasker {
    /// Masks of an image; each removes all but one of so many shares of the tokens: 4 for a mask ratio of 0.75.
    #[schemars(range(min = 2, max = 1024))]
    pub masks: usize,
}

impl Default for ComplementaryMasker {
    fn default() -> Self {
        Self { masks: 4 }
    }
}

#[typetag::serde]
impl Masker for ComplementaryMasker {
    fn plan(&self, grid: &MaskGrid) -> Result<MaskPlan, Problem> {
        let (tokens, masks) = (grid.tokens(), self.masks);
        if masks < 2 || !tokens.is_multiple_of(masks) {
            let fitting = (2..=tokens).filter(|masks| tokens.is_multiple_of(*masks));
            let nearest = fitting.min_by_key(|fitting| fitting.abs_diff(masks)).unwrap_or(tokens);
            let message = format!("the {} x {} tokens have no {masks} equal shares", grid.rows, grid.cols);
            return Err(Problem::new("masks", message)
                .help(format!("choose a divisor of {tokens}, such as {nearest}, or another `image_size`")));
        }
        Ok(MaskPlan { masks, kept: tokens / masks, independent_stages: false })
    }

    fn draw(&self, grid: &MaskGrid, batch: usize, ctx: &Context) -> Result<Mask> {
        let (tokens, masks) = (grid.tokens(), self.masks);
        let kept = tokens / masks;
        let first = Mask::from_noise(grid, kept, &ctx.uniform("noise", batch, tokens)?);
        // One shuffled order for all masks of an image, turned until the share of a mask comes first.
        let turned = |places: &[u32]| -> Vec<u32> {
            let turn = |mask: usize, place: u32| (place as usize + tokens - mask * kept) % tokens;
            (0..masks).flat_map(|mask| places.iter().map(move |&place| turn(mask, place) as u32)).collect()
        };
        let places = first.ids_restore.chunks_exact(tokens).flat_map(turned).collect();
        Ok(Mask::from_places(grid, masks, kept, places))
    }
}

convmae_framework::register!(Masker: ComplementaryMasker);

#[cfg(test)]
mod tests {
    use convmae_framework::random::{Purpose, stream};

    use super::*;
    use crate::maskers::BlockwiseMasker;

    #[test]
    fn every_token_is_visible_under_exactly_one_mask_of_its_image() {
        let grid = MaskGrid { rows: 14, cols: 14, cells: vec![4, 2] };
        let masker = ComplementaryMasker::default();
        assert_eq!(masker.plan(&grid), Ok(MaskPlan { masks: 4, kept: 49, independent_stages: false }));
        let ctx = || Context::eval(stream(Purpose::Step, &[0]));
        let mask = masker.draw(&grid, 3, &ctx()).unwrap();
        assert_eq!((mask.ids_keep.len(), mask.removed.len()), (3 * 196, 3 * 4 * 196));
        for image in mask.ids_keep.chunks_exact(196) {
            let mut seen = image.to_vec();
            seen.sort_unstable();
            assert!(seen.into_iter().eq(0..196));
        }
        for (removed, kept) in mask.removed.chunks_exact(196).zip(mask.ids_keep.chunks_exact(49)) {
            assert_eq!(removed.iter().sum::<f32>(), 147.0);
            assert!(kept.iter().all(|&token| removed[token as usize] == 0.0));
        }
        // The first share is what a single mask of the same noise keeps.
        let alone = BlockwiseMasker { mask_ratio: 0.75 }.draw(&grid, 3, &ctx()).unwrap();
        let first: Vec<u32> =
            mask.ids_keep.chunks_exact(196).flat_map(|image| image[..49].to_vec()).collect();
        assert_eq!(first, alone.ids_keep);
    }

    #[test]
    fn a_number_of_masks_that_does_not_divide_the_tokens_is_a_problem_of_its_key() {
        let grid = MaskGrid { rows: 3, cols: 3, cells: vec![4, 2] };
        let problem = ComplementaryMasker::default().plan(&grid).unwrap_err();
        assert_eq!(problem.key, "masks");
        assert!(problem.message.contains("3 x 3"), "{}", problem.message);
        assert!(problem.help.unwrap().contains("such as 3"));
    }
}
