//! The self-attention branch of a transformer block.

use super::{Branch, Linear, RelativePositions, Windows};
use crate::backend::attention::{self, Dims, Normalisers};
use crate::backend::{Buffer, Values, download, single, zeros};
use crate::error::{Error, Result};
use crate::ops::Layer as _;
use crate::{Param, Scope, Shape};

/// Multi-head self-attention with its projections, `proj(softmax(q k^T / sqrt(D / heads) + bias) v)` with `[q | k | v] = qkv(x)`, each
/// `[heads, D / heads]`.
///
/// Each token attends to all, or to those of its window ([`Attention::within`]); scores have no bias, or one by position
/// ([`Attention::with_positions`]).
#[derive(Debug, Clone)]
pub struct Attention {
    qkv: Linear,
    proj: Linear,
    heads: usize,
    positions: Option<RelativePositions>,
    windows: Option<Windows>,
}

/// What the backward of an [`Attention`] needs.
#[derive(Debug)]
pub struct SavedAttention {
    /// Window by window, if there are windows.
    qkv: Buffer,
    /// In the order of the tokens.
    output: Buffer,
    normalisers: Normalisers,
}

#[cfg(test)]
impl SavedAttention {
    /// Before the projection.
    pub(super) fn output(&self) -> &Values {
        &self.output
    }
}

impl Attention {
    /// With `qkv` and `proj`, of all tokens to all.
    ///
    /// # Errors
    /// If `heads` does not divide `dim`.
    pub fn new(scope: &Scope, dim: usize, heads: usize) -> Result<Self> {
        if heads == 0 || dim == 0 || !dim.is_multiple_of(heads) {
            return Err(Error::Value(format!("{dim} channels cannot be divided among {heads} heads")));
        }
        Ok(Self {
            qkv: Linear::new(&scope.child("qkv"), dim, 3 * dim),
            proj: Linear::new(&scope.child("proj"), dim, dim),
            heads,
            positions: None,
            windows: None,
        })
    }

    /// Within windows, if there are any. Beside the grid a window holds tokens of zeros, which are attended to: their keys and values are
    /// the bias of `qkv`.
    #[must_use]
    pub fn within(self, windows: Option<Windows>) -> Self {
        Self { windows, ..self }
    }

    /// With a bias of the scores, if there is one: on the grid of the tokens, or of a window.
    #[must_use]
    pub fn with_positions(self, positions: Option<RelativePositions>) -> Self {
        Self { positions, ..self }
    }

    /// Multiply-accumulates for one image of that many tokens: projections, scores with their bias, weighted values. Padding of windows
    /// counts, also in the projections, as where the official code computes them.
    pub fn macs(&self, tokens: usize) -> u64 {
        let (tokens, keys) = match self.windows {
            Some(windows) => (windows.count() * windows.area(), windows.area()),
            None => (tokens, tokens),
        };
        let (pairs, dim) = ((tokens * keys) as u64, self.proj.weight.shape()[0]);
        let positions = self.positions.as_ref().map_or(0, |positions| positions.macs(tokens, dim));
        self.qkv.macs(tokens) + self.proj.macs(tokens) + 2 * pairs * dim as u64 + positions
    }

    /// What stands before the names of its parameters: `blocks3.0.attn`.
    pub(super) fn name(&self) -> &str {
        let weight = self.qkv.weight.name();
        weight.strip_suffix(".qkv.weight").unwrap_or(weight)
    }

    pub(super) fn heads(&self) -> usize {
        self.heads
    }

    /// Whether all tokens attend to all, by their scores alone.
    pub(super) fn is_plain(&self) -> bool {
        self.windows.is_none() && self.positions.is_none()
    }

    /// `[q | k | v]` of normalised tokens, `[B, N, 3, D]`, in memory of the host.
    pub(super) fn projected(&self, x: &Values, shape: Shape) -> Result<Vec<f32>> {
        let qkv = single(self.qkv(x, shape.dims3()?)?)?;
        download(&qkv)
    }

    /// Of images, or of windows: each is as an image of its own.
    fn dims(&self, input: Shape) -> Result<Dims> {
        let (batch, tokens, channels) = input.dims3()?;
        let (batch, tokens) = match self.windows {
            Some(windows) => (batch * windows.count(), windows.area()),
            None => (batch, tokens),
        };
        let heads = self.heads;
        Ok(Dims { batch, queries: tokens, keys: tokens, heads, head_dim: channels / heads })
    }

    /// `[B, N, 3, D]`, window by window if there are windows.
    fn qkv(&self, x: &Values, (batch, _, channels): (usize, usize, usize)) -> Result<Buffer> {
        let (qkv, width) = (self.qkv.forward_rows(x, None)?, 3 * channels);
        let Some(windows) = self.windows else { return Ok(qkv) };
        let padding = windows.pads().then_some(self.qkv.bias.as_ref()).flatten().map(Param::values);
        windows.split(&qkv, padding.as_deref(), width, batch)
    }
}

impl Branch for Attention {
    type Saved = SavedAttention;

    fn check(&self, input: Shape) -> Result<()> {
        let (_, tokens, channels) = input.dims3()?;
        if tokens == 0 || !channels.is_multiple_of(self.heads) {
            return Err(Error::Shape(format!("{} heads cannot attend to {input:?}", self.heads)));
        }
        if let Some(Windows { grid: (rows, cols), side }) = self.windows
            && (rows * cols != tokens || side == 0)
        {
            return Err(Error::Shape(format!(
                "windows of {side} x {side} on a grid of {rows} x {cols} do not hold {tokens} tokens"
            )));
        }
        if let Some(positions) = &self.positions {
            let Dims { keys, head_dim, .. } = self.dims(input)?;
            positions.check(keys, self.heads, head_dim)?;
        }
        self.qkv.check_outputs(channels, 3 * channels)?;
        self.proj.check_outputs(channels, channels)
    }

    fn may_train(&self) -> bool {
        self.qkv.may_train() || self.proj.may_train() || self.positions.is_some()
    }

    fn forward(
        &self,
        x: &Values,
        shape: Shape,
        residual: Option<&Values>,
    ) -> Result<(Buffer, SavedAttention)> {
        let saved = self.recompute(x, shape)?;
        Ok((self.proj.forward_rows(&saved.output, residual)?, saved))
    }

    fn recompute(&self, x: &Values, shape: Shape) -> Result<SavedAttention> {
        let ((batch, tokens, channels), dims) = (shape.dims3()?, self.dims(shape)?);
        let qkv = self.qkv(x, (batch, tokens, channels))?;
        let (output, normalisers) = match &self.positions {
            Some(positions) => positions.with(|positions| attention::forward(&qkv, Some(positions), dims))?,
            None => attention::forward(&qkv, None, dims)?,
        };
        let output = match self.windows {
            Some(windows) => windows.merge(&output, channels, batch)?,
            None => output,
        };
        Ok(SavedAttention { qkv, output, normalisers })
    }

    fn backward(&self, x: &Values, saved: SavedAttention, grad: &Values, shape: Shape) -> Result<Buffer> {
        let SavedAttention { qkv, output, normalisers } = saved;
        let ((batch, _, channels), dims) = (shape.dims3()?, self.dims(shape)?);
        let grad_output = self.proj.backward_input(grad)?;
        self.proj.backward_params(grad, Some(&output))?;
        let (grad_output, output) = match self.windows {
            // What comes out of padding is dropped.
            Some(windows) => {
                let zeros = zeros(channels)?;
                let split = |rows: &Values| windows.split(rows, Some(&*zeros), channels, batch);
                (split(&grad_output)?, split(&output)?)
            }
            None => (grad_output, output),
        };
        let (grad_qkv, grad_tables) = match &self.positions {
            Some(positions) => positions.with(|positions| {
                attention::backward(&grad_output, &output, &qkv, Some(positions), &normalisers, dims)
            })?,
            None => attention::backward(&grad_output, &output, &qkv, None, &normalisers, dims)?,
        };
        drop((qkv, output, grad_output));
        if let Some(positions) = &self.positions {
            positions.add_grads(grad_tables)?;
        }
        let grad_qkv = match self.windows {
            Some(windows) => {
                if let (true, Some(bias)) = (windows.pads(), &self.qkv.bias) {
                    let padding = windows.sum_padding(&grad_qkv, 3 * channels, batch)?;
                    bias.add_grad(padding)?;
                }
                windows.merge(&grad_qkv, 3 * channels, batch)?
            }
            None => grad_qkv,
        };
        self.qkv.backward_params(&grad_qkv, Some(x))?;
        self.qkv.backward_input(&grad_qkv)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::residual::tests::{SHAPE, assert_equals_composition, refused};
    use crate::oracle;

    /// Of 6 channels in two heads, on a grid of 2 x 4 tokens.
    fn attention(scope: &Scope, windows: Option<Windows>, decomposed: Option<bool>) -> Attention {
        let grid = windows.map_or((2, 4), |windows| (windows.side, windows.side));
        let positions = decomposed.map(|decomposed| match decomposed {
            true => RelativePositions::decomposed(scope, 3, grid),
            false => RelativePositions::bias(scope, 2, grid),
        });
        Attention::new(scope, 6, 2).unwrap().within(windows).with_positions(positions)
    }

    const POSITIONS: [Option<bool>; 3] = [None, Some(false), Some(true)];

    #[test]
    fn its_residual_equals_the_composition() {
        for positions in POSITIONS {
            assert_equals_composition(
                |scope| attention(scope, None, positions),
                |attn, x| {
                    let qkv = oracle::linear(x, &attn.qkv)?;
                    oracle::linear(oracle::attention(qkv, attn.heads, attn.positions.as_ref())?, &attn.proj)
                },
            );
        }
    }

    #[test]
    fn with_positions_of_a_cls_token_its_residual_equals_the_composition() {
        // A cls token and a grid of 1 x 7.
        assert_equals_composition(
            |scope| {
                let positions = RelativePositions::bias_with_cls_token(scope, 2, (1, 7));
                Attention::new(scope, 6, 2).unwrap().with_positions(Some(positions))
            },
            |attn, x| {
                let qkv = oracle::linear(x, &attn.qkv)?;
                oracle::linear(oracle::attention(qkv, attn.heads, attn.positions.as_ref())?, &attn.proj)
            },
        );
    }

    #[test]
    fn within_windows_it_equals_attention_of_images_of_their_own() {
        // Two windows of four tokens; two of nine places, some of which (8) are beside the grid.
        let tiles = [0, 1, 4, 5, 2, 3, 6, 7];
        let padded = [0, 1, 2, 4, 5, 6, 8, 8, 8, 3, 8, 8, 7, 8, 8, 8, 8, 8];
        for (side, index) in [(2, &tiles[..]), (3, &padded)] {
            let windows = Windows { grid: (2, 4), side };
            let of_batch = |image: u32| index.iter().map(move |&at| if at < 8 { at + 8 * image } else { 16 });
            let split: Vec<u32> = of_batch(0).chain(of_batch(1)).collect();
            let merge: Vec<u32> =
                (0..16).map(|token| split.iter().position(|&at| at == token).unwrap() as u32).collect();
            let zeros = Scope::new(0).frozen("zeros", &[6], &crate::Init::ZEROS);
            for positions in POSITIONS {
                assert_equals_composition(
                    |scope| attention(scope, Some(windows), positions),
                    |attn, x| {
                        let x = oracle::take_rows(x, Some(&zeros), &split)?;
                        let x = x.reshape((4, side * side, 6))?;
                        let qkv = oracle::linear(x, &attn.qkv)?;
                        let heads = oracle::attention(qkv, attn.heads, attn.positions.as_ref())?;
                        let heads = oracle::linear(heads, &attn.proj)?;
                        oracle::take_rows(heads, None, &merge)?.reshape(SHAPE)
                    },
                );
            }
        }
    }

    #[test]
    fn multiply_accumulates_count_the_padding_of_windows() {
        let macs = |windows, decomposed| attention(&Scope::describe(), windows, decomposed).macs(8);
        assert_eq!(macs(None, Some(false)), 8 * 4 * 36 + 2 * 64 * 6);
        assert_eq!(macs(None, Some(true)), 8 * 4 * 36 + 2 * 64 * 6 + 8 * 6 * (2 + 4));
        let windows = Windows { grid: (2, 4), side: 3 };
        assert_eq!(macs(Some(windows), Some(true)), 18 * 4 * 36 + 2 * 18 * 9 * 6 + 18 * 6 * (3 + 3));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let plain = |dim| Attention::new(&Scope::new(0), dim, 2).unwrap();
        let positions = |grid| Some(RelativePositions::bias(&Scope::new(0), 2, grid));
        assert!(!refused(plain(6).with_positions(positions((2, 4))), SHAPE));
        assert!(refused(plain(8), SHAPE));
        assert!(refused(plain(6).with_positions(positions((2, 3))), SHAPE));
        let other_heads = RelativePositions::bias(&Scope::new(0), 3, (2, 4));
        assert!(refused(plain(6).with_positions(Some(other_heads)), SHAPE));
        let windows = |grid, side| plain(6).within(Some(Windows { grid, side }));
        assert!(refused(windows((2, 3), 2), SHAPE));
        assert!(refused(windows((2, 4), 2).with_positions(positions((2, 4))), SHAPE));
        assert!(!refused(windows((2, 4), 2).with_positions(positions((2, 2))), SHAPE));
        assert!(refused(plain(6), (2, 0, 6)));
        assert!(matches!(Attention::new(&Scope::describe(), 6, 4), Err(Error::Value(_))));
    }
}
