//! Positions of tokens from a table of another grid.

use super::layer::{Layer, LayerBackward, Pass};
use crate::backend::resample::{self, Resample, Side};
use crate::backend::tokens::{self, InverseIndex};
use crate::backend::{Buffer, Output, unspecified};
use crate::error::{Error, Result};
use crate::{Param, Positions, Shape};

/// Adds to the tokens of a grid, `[B, rows * cols, C]`, the embeddings of their positions, which a table of another grid is resized to:
/// anew each time, so that the table is trained (`get_abs_pos` of `detectron2.modeling.backbone.utils`).
///
/// As PyTorch's `interpolate(mode="bicubic", align_corners=False)`.
#[derive(Debug, Clone)]
pub struct AddResizedPositions {
    /// `[1, prefix + rows * cols, C]`, by `from`. The rows of prefix tokens are not used.
    pub table: Param,
    /// What the table stands for.
    pub from: Positions,
    /// Rows and columns of the tokens.
    pub grid: (usize, usize),
}

impl AddResizedPositions {
    fn resample(&self) -> Resample {
        let Positions { rows, cols, .. } = self.from;
        Resample { rows: Side::cubic(rows, self.grid.0), cols: Side::cubic(cols, self.grid.1) }
    }

    /// Of the table's grid: its rows of the table.
    fn rows(&self) -> Vec<u32> {
        let Positions { prefix, rows, cols } = self.from;
        (prefix..prefix + rows * cols).map(|row| row as u32).collect()
    }
}

impl Layer for AddResizedPositions {
    fn output_shape(&self, input: Shape) -> Result<Shape> {
        let (_, tokens, channels) = input.dims3()?;
        let Self { table, from: Positions { prefix, rows, cols }, grid } = self;
        if rows * cols == 0 || table.shape() != [1, prefix + rows * cols, channels] {
            return Err(Error::Shape(format!(
                "{}: {prefix} prefix tokens and a grid of {rows} x {cols} of {channels} channels are no table of {:?}",
                table.name(),
                table.shape()
            )));
        }
        if grid.0 * grid.1 != tokens {
            return Err(Error::Shape(format!("{tokens} tokens are not a grid of {} x {}", grid.0, grid.1)));
        }
        table.check_allocated()?;
        Ok(input)
    }

    fn may_train(&self) -> bool {
        self.table.requires_grad()
    }

    fn forward(self: Box<Self>, mut x: Buffer, shape: Shape, _: Pass) -> Result<(Buffer, LayerBackward)> {
        let (batch, tokens, channels) = shape.dims3()?;
        let (resample, rows) = (self.resample(), self.rows());
        let table = tokens::gather_rows(&self.table.values(), None, channels, &rows)?;
        let positions = resample::forward(&resample, &table, channels)?;
        let index: Vec<u32> = (0..batch * tokens).map(|token| (token % tokens) as u32).collect();
        tokens::add_rows(&mut x, &positions, channels, &index)?;
        let backward = move |grad: Buffer| {
            self.table.accumulate_grad(|sum, mode| {
                let mut positions = unspecified(tokens * channels)?;
                let of_tokens = InverseIndex::new(&index, tokens);
                tokens::scatter_rows(&grad, channels, &of_tokens, &mut positions, Output::Replace)?;
                let table = resample::grad_input(&resample, &positions, channels)?;
                let of_rows = InverseIndex::new(&rows, self.table.numel() / channels);
                tokens::scatter_rows(&table, channels, &of_rows, sum, mode)
            })?;
            Ok(Some(grad))
        };
        Ok((x, Box::new(backward)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Sequential;
    use crate::testing::{
        assert_close, check_gradient, context, loss_weights, noise, noise_param, run, wide,
    };

    /// From a grid of 2 x 3 behind a prefix token to one of 3 x 2, two channels.
    fn layer() -> AddResizedPositions {
        let from = Positions { prefix: 1, rows: 2, cols: 3 };
        AddResizedPositions { table: noise_param(2, &[1, 7, 2]), from, grid: (3, 2) }
    }

    /// By the dense matrices of both sides, in f64.
    fn direct(x: &[f64], table: &[f64]) -> Vec<f64> {
        let (rows, cols) = (Side::cubic(2, 3).dense(), Side::cubic(3, 2).dense());
        let resized = |token: usize, channel: usize| -> f64 {
            let (row, col) = (token / 2, token % 2);
            let term = |at: usize| {
                let weight = f64::from(rows[row * 2 + at / 3]) * f64::from(cols[col * 3 + at % 3]);
                weight * table[(1 + at) * 2 + channel]
            };
            (0..6).map(term).sum()
        };
        x.iter().enumerate().map(|(at, x)| x + resized(at / 2 % 6, at % 2)).collect()
    }

    #[test]
    fn it_equals_its_definition_and_its_gradients_finite_differences() {
        let (layer, x) = (layer(), noise(1, 2 * 6 * 2));
        let own = run(&x, (2, 6, 2), &[&layer.table], |x| {
            Sequential::new().then(layer.clone()).forward(x, &context(false))
        });
        let table = layer.table.to_vec().unwrap();
        assert_close(&own.values, &direct(&wide(&x), &wide(&table)), 1e-6);
        assert_eq!(own.grads[0], loss_weights(24));
        check_gradient(&table, &own.grads[1], |table| {
            direct(&wide(&x), table).iter().zip(loss_weights(24)).map(|(y, w)| y * f64::from(w)).sum()
        });
    }

    #[test]
    fn other_grids_are_refused() {
        let shape = |tokens: usize, channels: usize| Shape::from((2, tokens, channels));
        assert!(layer().output_shape(shape(6, 2)).is_ok());
        assert!(layer().output_shape(shape(5, 2)).is_err());
        assert!(layer().output_shape(shape(6, 3)).is_err());
        let other = AddResizedPositions { from: Positions { prefix: 0, rows: 2, cols: 3 }, ..layer() };
        assert!(other.output_shape(shape(6, 2)).is_err());
    }
}
