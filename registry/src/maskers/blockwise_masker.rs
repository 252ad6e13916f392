//! Block-wise masking: random patches of the last stage, upsampled to the earlier ones.

use convmae_framework::component::{Mask, MaskGrid, MaskPlan, Masker, Problem};
use convmae_framework::nn::{Context, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Masks random tokens of the last stage; at earlier stages the same patches are masked, as blocks of
/// positions (paper section 3.2, `random_masking` of the official code).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BlockwiseMasker {
    /// Share of the tokens that is removed.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub mask_ratio: f64,
}

impl Default for BlockwiseMasker {
    fn default() -> Self {
        Self { mask_ratio: 0.75 }
    }
}

#[typetag::serde]
impl Masker for BlockwiseMasker {
    fn plan(&self, grid: &MaskGrid) -> Result<MaskPlan, Problem> {
        Ok(MaskPlan { masks: 1, kept: super::kept_tokens(grid, self.mask_ratio)?, independent_stages: false })
    }

    fn draw(&self, grid: &MaskGrid, batch: usize, ctx: &Context) -> Result<Mask> {
        let noise = ctx.uniform("noise", batch, grid.tokens())?;
        Ok(Mask::from_noise(grid, super::kept(grid.tokens(), self.mask_ratio), &noise))
    }
}

convmae_framework::register!(Masker: BlockwiseMasker);

#[cfg(test)]
mod tests {
    use super::*;
    use convmae_framework::random::{Purpose, stream};

    const GRID: fn() -> MaskGrid = || MaskGrid { rows: 14, cols: 14, cells: vec![4, 2] };

    #[test]
    fn keeps_the_same_number_of_tokens_in_every_image() {
        let masker = BlockwiseMasker { mask_ratio: 0.75 };
        assert_eq!(masker.plan(&GRID()), Ok(MaskPlan { masks: 1, kept: 49, independent_stages: false }));
        let mask = masker.draw(&GRID(), 3, &Context::eval(stream(Purpose::Step, &[0]))).unwrap();
        for image in mask.removed.chunks(196) {
            assert_eq!(image.iter().sum::<f32>(), 147.0);
        }
        assert_ne!(mask.ids_keep[..49], mask.ids_keep[49..98]);
    }

    #[test]
    fn a_ratio_that_keeps_nothing_is_a_problem_of_its_key() {
        let problem = BlockwiseMasker { mask_ratio: 0.999 }.plan(&GRID()).unwrap_err();
        assert_eq!(problem.key, "mask_ratio");
    }
}
