//! Position embeddings, of the grid of the tokens or resized to it.

use convmae_framework::component::Problem;
use convmae_framework::nn::ops::{AddPositions, AddResizedPositions, Sequential};
use convmae_framework::nn::position::sin_cos_table;
use convmae_framework::nn::{Init, Param, PatchLayout, Positions, Scope};

use super::InitialValues;

/// A parameter that starts as a sin-cos table, `[1, prefix + rows * cols, dim]`.
pub fn position_embedding(
    scope: &Scope,
    name: &str,
    (rows, cols): (usize, usize),
    dim: usize,
    prefix: usize,
    trained: bool,
) -> Result<Param, Problem> {
    let table = match scope.allocates() {
        true => sin_cos_table(rows, cols, dim, prefix)
            .map_err(|error| Problem::new("embed_dim", error.to_string()))?,
        false => Vec::new(),
    };
    let scope = scope.at_positions(Positions { prefix, rows, cols });
    let (shape, table) = ([1, prefix + rows * cols, dim], Init::Values(table));
    Ok(match trained {
        true => scope.param(name, &shape, &table),
        false => scope.frozen(name, &shape, &table),
    })
}

/// The position embedding of a backbone, `pos_embed`.
pub struct PositionEmbedding {
    table: Param,
    /// What the table stands for.
    positions: Positions,
    /// Rows and columns of tokens.
    grid: (usize, usize),
}

impl PositionEmbedding {
    /// Of a grid of tokens with a table of the same size, or of one of `side x side` that is resized. It starts as
    /// sines and cosines, unless it is trained from other initial values.
    pub fn new(
        scope: &Scope,
        grid: (usize, usize),
        side: Option<usize>,
        dim: usize,
        prefix: usize,
        trained: bool,
        init: InitialValues,
    ) -> Result<Self, Problem> {
        const NAME: &str = "pos_embed";
        let (rows, cols) = side.map_or(grid, |side| (side, side));
        let positions = Positions { prefix, rows, cols };
        let table = match init {
            InitialValues::Timm if trained => {
                let shape = [1, prefix + rows * cols, dim];
                scope.at_positions(positions).param(NAME, &shape, &InitialValues::trunc_normal())
            }
            _ => position_embedding(scope, NAME, (rows, cols), dim, prefix, trained)?,
        };
        Ok(Self { table, positions, grid })
    }

    /// Adds it to the tokens of a layout, behind so many prefix tokens. Where the table is not one of them,
    /// the tokens are the whole grid.
    pub fn layers(&self, layout: &PatchLayout, prefix: usize) -> Sequential {
        let (table, grid, from) = (self.table.clone(), self.grid, self.positions);
        if (from.prefix, from.rows, from.cols) != (prefix, grid.0, grid.1) {
            return Sequential::new().then(AddResizedPositions { table, from, grid });
        }
        let (grid, ids) = (grid.0 * grid.1, Some(layout.ids.to_vec()));
        Sequential::new().then(AddPositions { table, grid, ids, prefix })
    }
}
