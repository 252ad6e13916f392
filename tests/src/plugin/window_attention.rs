//! A branch of blocks: attention within windows.

use convmae_framework::nn::backend::attention::{self, Dims, Normalisers};
use convmae_framework::nn::backend::tokens::{InverseIndex, gather_rows};
use convmae_framework::nn::backend::{Buffer, Values};
use convmae_framework::nn::layers::{Branch, Linear};
use convmae_framework::nn::{Error, Result, Scope, Shape};

/// Multi-head self-attention among the tokens of each window of a grid (Swin; most blocks of `ViTDet`), with its projections
/// (`qkv`, `proj`).
#[derive(Debug, Clone)]
pub struct WindowAttention {
    qkv: Linear,
    proj: Linear,
    heads: usize,
    /// Rows and columns, multiples of the window's side.
    grid: [usize; 2],
    /// Tokens along each side of a window.
    window: usize,
}

/// What the backward of a [`WindowAttention`] needs.
pub struct SavedWindows {
    /// Window by window.
    qkv: Buffer,
    /// In the order of the grid.
    output: Buffer,
    normalisers: Normalisers,
}

impl WindowAttention {
    /// # Errors
    /// If the heads do not divide the channels, or the windows do not divide the grid.
    pub fn new(scope: &Scope, dim: usize, heads: usize, grid: [usize; 2], window: usize) -> Result<Self> {
        if heads == 0 || !dim.is_multiple_of(heads) {
            return Err(Error::Value(format!("{dim} channels cannot be divided among {heads} heads")));
        }
        if window == 0 || grid.iter().any(|side| !side.is_multiple_of(window)) {
            let [rows, cols] = grid;
            return Err(Error::Value(format!(
                "windows of {window} x {window} do not tile {rows} x {cols} tokens"
            )));
        }
        let (qkv, proj) = (scope.child("qkv"), scope.child("proj"));
        let (qkv, proj) = (Linear::new(&qkv, dim, 3 * dim), Linear::new(&proj, dim, dim));
        Ok(Self { qkv, proj, heads, grid, window })
    }

    /// Multiply-accumulates of one image.
    pub fn macs(&self) -> u64 {
        let tokens = self.grid.iter().product();
        let (pairs, dim) = ((tokens * self.window * self.window) as u64, self.proj.weight.shape()[0] as u64);
        self.qkv.macs(tokens) + self.proj.macs(tokens) + 2 * pairs * dim
    }

    /// Every window is an image of its own.
    fn dims(&self, input: Shape) -> Result<Dims> {
        let ((batch, tokens, channels), heads) = (input.dims3()?, self.heads);
        let area = self.window * self.window;
        let batch = batch * tokens / area;
        Ok(Dims { batch, queries: area, keys: area, heads, head_dim: channels / heads })
    }

    /// The token of a batch at each place when the windows lie one behind the other.
    fn by_window(&self, batch: usize) -> Vec<u32> {
        let ([rows, cols], side) = (self.grid, self.window);
        let token = |place: usize| {
            let (window, within) = (place / (side * side), place % (side * side));
            let (top, left) = (window / (cols / side) * side, window % (cols / side) * side);
            // The windows of the next image are further down.
            ((top + within / side) * cols + left + within % side) as u32
        };
        (0..batch * rows * cols).map(token).collect()
    }
}

impl Branch for WindowAttention {
    type Saved = SavedWindows;

    fn check(&self, input: Shape) -> Result<()> {
        let (_, tokens, channels) = input.dims3()?;
        let [rows, cols] = self.grid;
        if tokens != rows * cols {
            return Err(Error::Shape(format!("{tokens} tokens are not a grid of {rows} x {cols}")));
        }
        self.qkv.check_outputs(channels, 3 * channels)?;
        self.proj.check_outputs(channels, channels)
    }

    fn forward(&self, x: &Values, shape: Shape, residual: Option<&Values>) -> Result<(Buffer, SavedWindows)> {
        let saved = self.recompute(x, shape)?;
        Ok((self.proj.forward_rows(&saved.output, residual)?, saved))
    }

    fn recompute(&self, x: &Values, shape: Shape) -> Result<SavedWindows> {
        let ((batch, _, channels), order) = (shape.dims3()?, self.by_window(shape[0]));
        debug_assert_eq!(order.len(), batch * shape[1]);
        let qkv = self.qkv.forward_rows(x, None)?;
        let qkv = gather_rows(&qkv, None, 3 * channels, &order)?;
        let (output, normalisers) = attention::forward(&qkv, None, self.dims(shape)?)?;
        let output = gather_rows(&output, None, channels, InverseIndex::new(&order, order.len()).all())?;
        Ok(SavedWindows { qkv, output, normalisers })
    }

    fn backward(&self, x: &Values, saved: SavedWindows, grad: &Values, shape: Shape) -> Result<Buffer> {
        let SavedWindows { qkv, output, normalisers } = saved;
        let ((batch, _, channels), dims) = (shape.dims3()?, self.dims(shape)?);
        let order = self.by_window(batch);
        let grad_output = self.proj.backward_input(grad)?;
        self.proj.backward_params(grad, Some(&output))?;
        let grad_output = gather_rows(&grad_output, None, channels, &order)?;
        let output = gather_rows(&output, None, channels, &order)?;
        let (grad_qkv, _) = attention::backward(&grad_output, &output, &qkv, None, &normalisers, dims)?;
        let grad_qkv =
            gather_rows(&grad_qkv, None, 3 * channels, InverseIndex::new(&order, order.len()).all())?;
        self.qkv.backward_params(&grad_qkv, Some(x))?;
        self.qkv.backward_input(&grad_qkv)
    }
}

#[cfg(test)]
mod tests {
    use convmae_framework::nn::layers::{Attention, LayerNorm, Residual};
    use convmae_framework::nn::ops::{GatherTokens, Sequential};
    use convmae_framework::nn::testing::{Outcome, assert_close, context, noise, run, wide};
    use convmae_framework::nn::{Param, Tape, Tensor};

    use super::*;

    const GRID: [usize; 2] = [4, 6];

    /// A branch behind its norm, with parameters of a fixed random content.
    fn residual<B: Branch>(build: impl FnOnce(&Scope) -> B) -> (Residual<B>, Vec<Param>) {
        let scope = Scope::new(0);
        let norm = LayerNorm::new(&scope.child("norm"), 6, 1e-6);
        let residual = Residual::new(&norm, build(&scope.child("attn")));
        let params = scope.params();
        for (seed, param) in params.iter().enumerate() {
            param.set(&noise(seed as u64, param.numel())).unwrap();
        }
        (residual, params)
    }

    /// Runs layers on two images of 4 x 6 tokens.
    fn outcome(layers: Sequential, params: &[Param], checkpoint: bool) -> Outcome {
        let params: Vec<&Param> = params.iter().collect();
        run(&noise(9, 2 * 24 * 6), (2, 24, 6), &params, |x| {
            let mut ctx = context(false);
            ctx.checkpoint_activations = checkpoint;
            layers.forward(x, &ctx)
        })
    }

    #[test]
    fn a_window_as_large_as_the_grid_is_attention() {
        let (windows, params) = residual(|scope| WindowAttention::new(scope, 6, 2, [4, 4], 4).unwrap());
        let (global, other) = residual(|scope| Attention::new(scope, 6, 2).unwrap());
        let run = |layers: Sequential, params: &[Param]| {
            let params: Vec<&Param> = params.iter().collect();
            run(&noise(9, 2 * 16 * 6), (2, 16, 6), &params, |x| layers.forward(x, &context(false)))
        };
        let own = run(Sequential::new().then(windows), &params);
        own.assert_close(&run(Sequential::new().then(global), &other), 1e-6);
    }

    #[test]
    fn within_windows_it_is_attention_of_images_of_their_own() {
        let windows = || residual(|scope| WindowAttention::new(scope, 6, 2, GRID, 2).unwrap());
        let (branch, params) = windows();
        let own = outcome(Sequential::new().then(branch), &params, false);
        let (branch, params) = windows();
        assert_eq!(outcome(Sequential::new().then(branch), &params, true), own, "with checkpointing");

        // Each window alone, by the tokens that are in it.
        let corner = |window: u32| window / 3 * 12 + window % 3 * 2;
        let ids = |window: u32| [0, 1, 6, 7].map(|token| corner(window) + token);
        let x = Tensor::from_vec(noise(9, 2 * 24 * 6), (2, 24, 6), &Tape::none()).unwrap();
        let (branch, _) = windows();
        let whole = Sequential::new().then(branch).forward(x.clone(), &context(false)).unwrap();
        for window in 0..6 {
            let take = || GatherTokens { ids: ids(window).repeat(2) };
            let (global, _) = residual(|scope| Attention::new(scope, 6, 2).unwrap());
            let alone = Sequential::new().then(take()).then(global).forward(x.clone(), &context(false));
            let part = Sequential::new().then(take()).forward(whole.clone(), &context(false));
            assert_close(&part.unwrap().to_vec().unwrap(), &wide(&alone.unwrap().to_vec().unwrap()), 1e-6);
        }
    }

    #[test]
    fn windows_that_do_not_tile_the_grid_are_refused() {
        assert!(WindowAttention::new(&Scope::describe(), 6, 2, GRID, 4).is_err());
        assert!(WindowAttention::new(&Scope::describe(), 6, 4, GRID, 2).is_err());
    }
}
