//! A masker without randomness within an image: every other token.

use convmae_framework::component::{Mask, MaskGrid, MaskPlan, Masker, Problem};
use convmae_framework::nn::{Context, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Removes every other token, like the black squares of a checkerboard. Which half stays is drawn for every
/// image.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CheckerboardMasker {
    /// Whether each image draws its half; otherwise the corner at the top left always stays.
    pub random_half: bool,
}

impl Default for CheckerboardMasker {
    fn default() -> Self {
        Self { random_half: true }
    }
}

#[typetag::serde]
impl Masker for CheckerboardMasker {
    fn plan(&self, grid: &MaskGrid) -> Result<MaskPlan, Problem> {
        let tokens = grid.tokens();
        if !tokens.is_multiple_of(2) {
            let message = format!("a checkerboard of {} x {} has no equal halves", grid.rows, grid.cols);
            return Err(Problem::new("", message)
                .help("choose an `image_size` with an even number of patches along a side"));
        }
        Ok(MaskPlan { masks: 1, kept: tokens / 2, independent_stages: false })
    }

    fn draw(&self, grid: &MaskGrid, batch: usize, ctx: &Context) -> Result<Mask> {
        let halves = if self.random_half { ctx.uniform("half", batch, 1)? } else { vec![0.0; batch] };
        let colour = |half: f32, token: usize| {
            let black = !(token / grid.cols + token % grid.cols).is_multiple_of(2);
            f32::from(black != (half >= 0.5))
        };
        let noise: Vec<f32> = halves
            .iter()
            .flat_map(|&half| (0..grid.tokens()).map(move |token| colour(half, token)))
            .collect();
        Ok(Mask::from_noise(grid, grid.tokens() / 2, &noise))
    }
}

convmae_framework::register!(Masker: CheckerboardMasker);

#[cfg(test)]
mod tests {
    use convmae_framework::random::{Purpose, stream};

    use super::*;

    #[test]
    fn every_other_token_stays() {
        let grid = MaskGrid { rows: 2, cols: 4, cells: vec![4, 2] };
        let ctx = Context::eval(stream(Purpose::Step, &[0]));
        let mask = CheckerboardMasker { random_half: false }.draw(&grid, 1, &ctx).unwrap();
        assert_eq!(mask.ids_keep, [0, 2, 5, 7]);
    }

    #[test]
    fn both_halves_are_drawn() {
        let grid = MaskGrid { rows: 2, cols: 2, cells: vec![4, 2] };
        let ctx = Context::eval(stream(Purpose::Step, &[0]));
        let mask = CheckerboardMasker { random_half: true }.draw(&grid, 16, &ctx).unwrap();
        let mut kept: Vec<_> = mask.ids_keep.chunks(2).collect();
        kept.sort_unstable();
        kept.dedup();
        assert_eq!(kept, [[0, 3], [1, 2]]);
    }

    #[test]
    fn an_odd_board_is_a_problem() {
        let grid = MaskGrid { rows: 3, cols: 3, cells: vec![4, 2] };
        assert!(CheckerboardMasker { random_half: true }.plan(&grid).is_err());
    }
}
