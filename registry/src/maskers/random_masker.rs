//! Independent random masks at every stage: an ablation of the paper.

use convmae_framework::component::{Mask, MaskGrid, MaskPlan, Masker, Problem};
use convmae_framework::nn::{Context, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Masks independent random positions at every stage (the baseline of the paper's ablation on block-wise
/// masking). Earlier stages are computed densely, for nearly every patch holds visible positions.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RandomMasker {
    /// Share of the positions that is removed, at every stage.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub mask_ratio: f64,
}

impl Default for RandomMasker {
    fn default() -> Self {
        Self { mask_ratio: 0.75 }
    }
}

#[typetag::serde]
impl Masker for RandomMasker {
    fn plan(&self, grid: &MaskGrid) -> Result<MaskPlan, Problem> {
        Ok(MaskPlan { masks: 1, kept: super::kept_tokens(grid, self.mask_ratio)?, independent_stages: true })
    }

    fn draw(&self, grid: &MaskGrid, batch: usize, ctx: &Context) -> Result<Mask> {
        let noise = ctx.uniform("noise", batch, grid.tokens())?;
        let mut mask = Mask::from_noise(grid, super::kept(grid.tokens(), self.mask_ratio), &noise);
        for (stage, cell) in grid.cells.iter().enumerate() {
            let finer = MaskGrid { rows: grid.rows * cell, cols: grid.cols * cell, cells: Vec::new() };
            let noise = ctx.uniform(&format!("noise_stage{}", stage + 1), batch, finer.tokens())?;
            mask.stages
                .push(Mask::from_noise(&finer, super::kept(finer.tokens(), self.mask_ratio), &noise).removed);
        }
        Ok(mask)
    }
}

convmae_framework::register!(Masker: RandomMasker);

#[cfg(test)]
mod tests {
    use super::*;
    use convmae_framework::random::{Purpose, stream};

    #[test]
    fn stages_are_masked_independently_at_the_same_ratio() {
        let grid = MaskGrid { rows: 4, cols: 4, cells: vec![4, 2] };
        let ctx = Context::eval(stream(Purpose::Step, &[7]));
        let mask = RandomMasker { mask_ratio: 0.75 }.draw(&grid, 2, &ctx).unwrap();
        let removed: Vec<f32> = mask.stages.iter().map(|stage| stage.iter().sum()).collect();
        assert_eq!(removed, [2.0 * 192.0, 2.0 * 48.0]);
        let upsampled = (0..16 * 16).all(|i| {
            let (row, col) = (i / 16, i % 16);
            mask.stages[0][i] == mask.removed[row / 4 * 4 + col / 4]
        });
        assert!(!upsampled);
    }
}
