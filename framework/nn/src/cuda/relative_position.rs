//! The biases of all scores of an attention by relative position, and what follows from their gradients.

use super::attention::{Dims, PositionTables, RelativePositions, bias_rows};
use super::buffer::unspecified;
use super::module::{Grid, Source, arguments, source};
use super::storage::stored;
use super::{Buffer, Values};
use crate::Result;

static KERNELS: Source = source!("relative_position");

/// The biases: `[H, N, N]` of a table of all offsets, `[B, H, N, N]` of products with queries.
pub fn forward(qkv: &Values, positions: &RelativePositions<'_, Values>, dims: Dims) -> Result<Buffer> {
    let Dims { batch, keys: tokens, heads, head_dim, .. } = dims;
    let ((rows, cols), cls) = (positions.grid, usize::from(positions.cls_token));
    assert_eq!(rows * cols + cls, tokens, "the grid is that of the tokens");
    match positions.tables {
        PositionTables::Bias(table) => {
            assert_eq!(table.len(), bias_rows(positions.grid, positions.cls_token) * heads);
            let biases = unspecified(heads * tokens * tokens)?;
            let arguments = arguments![biases, *table, rows, cols, cls, heads, biases.len()];
            KERNELS.launch("expand", Grid::elements(biases.len()), arguments)?;
            Ok(biases)
        }
        PositionTables::Decomposed([by_row, by_col]) => {
            assert_eq!(cls, 0, "a cls token has no row and no column");
            let lens = [rows, cols].map(|side| (2 * side - 1) * head_dim);
            assert_eq!([by_row, by_col].map(Values::len), lens);
            // Of every query those of all rows of keys, then those of all columns.
            let products = unspecified(batch * heads * tokens * (rows + cols))?;
            let arguments =
                arguments![products, *qkv, *by_row, *by_col, rows, cols, heads, head_dim, products.len()];
            let kernel = qkv.storage().of(stored!("products"));
            KERNELS.launch_stored(kernel, Grid::elements(products.len()), arguments)?;
            let biases = unspecified(batch * heads * tokens * tokens)?;
            let arguments = arguments![biases, products, rows, cols, biases.len()];
            KERNELS.launch("spread", Grid::elements(biases.len()), arguments)?;
            Ok(biases)
        }
    }
}

/// The gradients of the tables from those of the biases; what follows for the queries is added to `grad_qkv`.
pub fn backward(
    grad: &Values,
    qkv: &Values,
    positions: &RelativePositions<'_, Values>,
    dims: Dims,
    grad_qkv: &mut Values,
) -> Result<Vec<Buffer>> {
    let Dims { batch, keys: tokens, heads, head_dim, .. } = dims;
    let ((rows, cols), cls) = (positions.grid, usize::from(positions.cls_token));
    match positions.tables {
        PositionTables::Bias(_) => {
            let table = unspecified(bias_rows(positions.grid, positions.cls_token) * heads)?;
            let arguments = arguments![table, *grad, rows, cols, cls, heads, table.len()];
            KERNELS.launch("grad_table", Grid::elements(table.len()), arguments)?;
            Ok(vec![table])
        }
        PositionTables::Decomposed([by_row, by_col]) => {
            let products = unspecified(batch * heads * tokens * (rows + cols))?;
            let arguments = arguments![products, *grad, rows, cols, products.len()];
            KERNELS.launch("grad_products", Grid::elements(products.len()), arguments)?;
            let count = batch * tokens * heads * head_dim;
            let arguments =
                arguments![*grad_qkv, products, *by_row, *by_col, rows, cols, heads, head_dim, count];
            let kernel = grad_qkv.storage().of(stored!("grad_queries"));
            KERNELS.launch_stored(kernel, Grid::elements(count), arguments)?;
            let grad_embeddings = |side: usize, axis: usize| {
                let table = unspecified((2 * side - 1) * head_dim)?;
                let arguments =
                    arguments![table, products, *qkv, axis, rows, cols, batch, heads, head_dim, table.len()];
                let kernel = qkv.storage().of(stored!("grad_embeddings"));
                KERNELS.launch_stored(kernel, Grid::elements(table.len()), arguments)?;
                Ok(table)
            };
            [rows, cols].into_iter().zip(0..).map(|(side, axis)| grad_embeddings(side, axis)).collect()
        }
    }
}
