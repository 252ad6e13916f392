//! Maskers: which patches a backbone sees.

mod blockwise_masker;
mod complementary_masker;
mod random_masker;

pub use blockwise_masker::BlockwiseMasker;
pub use complementary_masker::ComplementaryMasker;
pub use random_masker::RandomMasker;

use convmae_framework::component::{MaskGrid, Problem};

/// How many tokens stay at a mask ratio, as the official code rounds: `int(L * (1 - ratio))`.
fn kept(tokens: usize, mask_ratio: f64) -> usize {
    (tokens as f64 * (1.0 - mask_ratio)) as usize
}

/// [`kept`] of the grid's tokens, if that is neither none nor all.
fn kept_tokens(grid: &MaskGrid, mask_ratio: f64) -> Result<usize, Problem> {
    let tokens = grid.tokens();
    let kept = kept(tokens, mask_ratio);
    if kept == 0 || kept >= tokens {
        let what = if kept == 0 { "leaves none" } else { "removes none" };
        let most = ((1.0 - 1.0 / tokens as f64) * 1e3).floor() / 1e3;
        return Err(Problem::new("mask_ratio", format!("{mask_ratio} {what} of the {tokens} tokens"))
            .help(format!("choose a ratio above 0, up to {most}")));
    }
    Ok(kept)
}
