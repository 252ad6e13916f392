//! Biases of attention scores by relative position.

use crate::Param;
use crate::backend::relative_position::offsets;
use crate::tensor::{Error, Result};

/// A learned bias of the attention scores for every offset between two positions of a grid (Swin, `BEiT`).
#[derive(Debug, Clone, Copy)]
pub struct RelativePositionBias<'a> {
    /// `[(2 R - 1)(2 C - 1), H]`.
    pub table: &'a Param,
    /// Rows and columns of the grid.
    pub grid: (usize, usize),
}

impl RelativePositionBias<'_> {
    /// That it is for that many tokens and heads.
    pub(super) fn check(&self, tokens: usize, heads: usize) -> Result<()> {
        let (rows, cols) = self.grid;
        if rows * cols != tokens || self.table.shape() != [offsets(self.grid), heads] {
            return Err(Error::Shape(format!(
                "{}: biases {:?} of a grid of {rows} x {cols} for {heads} heads and {tokens} tokens",
                self.table.name(),
                self.table.shape()
            )));
        }
        super::check_allocated(self.table)
    }
}

