//! Learned biases of attention by the offset of two tokens.

use crate::backend::attention::{PositionTables, RelativePositions as Kernel, bias_rows};
use crate::backend::{Buffer, Values};
use crate::error::{Error, Result};
use crate::{Init, Param, Scope};

/// A bias of the scores for every offset of a query from a key in the grid of their tokens. Layers that hold the same share it.
#[derive(Debug, Clone)]
pub struct RelativePositions {
    /// Rows and columns, `R` and `C`.
    grid: (usize, usize),
    /// Whether a cls token comes before those of the grid.
    cls_token: bool,
    tables: Tables,
}

#[derive(Debug, Clone)]
enum Tables {
    Bias(Param),
    Decomposed([Param; 2]),
}

impl RelativePositions {
    /// A bias for every offset and head: `relative_position_bias_table`, `[(2 R - 1)(2 C - 1), heads]`, zeros at first (Swin, `BEiT`).
    pub fn bias(scope: &Scope, heads: usize, grid: (usize, usize)) -> Self {
        Self::with_table(scope, heads, grid, false)
    }

    /// The same with a cls token before those of the grid, for which the table has three rows more: its biases as the query of any other
    /// token, as the key of any other, and as both (`BEiT`).
    pub fn bias_with_cls_token(scope: &Scope, heads: usize, grid: (usize, usize)) -> Self {
        Self::with_table(scope, heads, grid, true)
    }

    fn with_table(scope: &Scope, heads: usize, grid: (usize, usize), cls_token: bool) -> Self {
        let shape = [bias_rows(grid, cls_token), heads];
        let table = scope.param("relative_position_bias_table", &shape, &Init::ZEROS);
        Self { grid, cls_token, tables: Tables::Bias(table) }
    }

    /// The product of the query, not scaled, with an embedding of the offset in rows, plus that with one of the offset in columns:
    /// `rel_pos_h`, `[2 R - 1, head_dim]`, and `rel_pos_w`, `[2 C - 1, head_dim]`, zeros at first (`MViTv2`; `ViTDet`).
    pub fn decomposed(scope: &Scope, head_dim: usize, grid: (usize, usize)) -> Self {
        let table = |(name, side): (&str, usize)| {
            scope.param(name, &[(2 * side).saturating_sub(1), head_dim], &Init::ZEROS)
        };
        let cls_token = false;
        Self {
            grid,
            cls_token,
            tables: Tables::Decomposed([("rel_pos_h", grid.0), ("rel_pos_w", grid.1)].map(table)),
        }
    }

    /// Multiply-accumulates for that many queries of all heads together `dim` wide.
    pub fn macs(&self, queries: usize, dim: usize) -> u64 {
        match self.tables {
            Tables::Bias(_) => 0,
            Tables::Decomposed(_) => (queries * dim * (self.grid.0 + self.grid.1)) as u64,
        }
    }

    /// Rows and columns.
    pub fn grid(&self) -> (usize, usize) {
        self.grid
    }

    /// Whether a cls token comes before those of the grid.
    pub fn has_cls_token(&self) -> bool {
        self.cls_token
    }

    /// The tables: one, or those of rows and of columns.
    pub fn params(&self) -> &[Param] {
        match &self.tables {
            Tables::Bias(table) => std::slice::from_ref(table),
            Tables::Decomposed(tables) => tables,
        }
    }

    /// That they fit so many tokens, heads and channels of each, and have values.
    pub(super) fn check(&self, tokens: usize, heads: usize, head_dim: usize) -> Result<()> {
        let grid = self.grid;
        let width = match &self.tables {
            Tables::Bias(_) => heads,
            Tables::Decomposed(_) => head_dim,
        };
        for table in self.params() {
            if grid.0 * grid.1 + usize::from(self.cls_token) != tokens || table.shape().last() != Some(&width)
            {
                return Err(Error::Shape(format!(
                    "{}: biases {:?} of a grid of {} x {} do not fit {tokens} tokens and {heads} heads of {head_dim} channels",
                    table.name(),
                    table.shape(),
                    grid.0,
                    grid.1
                )));
            }
            table.check_allocated()?;
        }
        Ok(())
    }

    /// Lets `attend` use the values.
    pub(super) fn with<T>(&self, attend: impl FnOnce(&Kernel<'_, Values>) -> T) -> T {
        let Self { grid, cls_token, ref tables } = *self;
        match tables {
            Tables::Bias(table) => {
                attend(&Kernel { grid, cls_token, tables: PositionTables::Bias(&table.values()) })
            }
            Tables::Decomposed(tables) => {
                let [rows, cols] = tables.each_ref().map(Param::values);
                attend(&Kernel { grid, cls_token, tables: PositionTables::Decomposed([&rows, &cols]) })
            }
        }
    }

    /// Adds the gradients of the tables, in their order.
    pub(super) fn add_grads(&self, grads: Vec<Buffer>) -> Result<()> {
        self.params().iter().zip(grads).try_for_each(|(table, grad)| table.add_grad(grad))
    }
}
