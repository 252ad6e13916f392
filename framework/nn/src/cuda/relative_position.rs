//! Biases of attention scores that depend on the offset between two positions of a grid (Swin, `BEiT`).

use super::buffer::unspecified;
use super::module::{Grid, Source, arguments, source};
use super::{Buffer, Values};
use crate::Result;

pub use crate::cpu::relative_position::offsets;

static KERNELS: Source = source!("relative_position");

/// The biases of all scores, `[H, N, N]`, from the table `[(2 R - 1)(2 C - 1), H]`.
pub fn expand(table: &Values, (rows, cols): (usize, usize), heads: usize) -> Result<Buffer> {
    assert_eq!(table.len(), offsets((rows, cols)) * heads);
    let tokens = rows * cols;
    let biases = unspecified(heads * tokens * tokens)?;
    let arguments = arguments![biases, *table, rows, cols, heads, biases.len()];
    KERNELS.launch("expand", Grid::elements(biases.len()), arguments)?;
    Ok(biases)
}

/// The gradient of the table from that of the biases.
pub fn grad_table(grad: &Values, (rows, cols): (usize, usize), heads: usize) -> Result<Buffer> {
    let tokens = rows * cols;
    assert_eq!(grad.len(), heads * tokens * tokens);
    let table = unspecified(offsets((rows, cols)) * heads)?;
    let arguments = arguments![table, *grad, rows, cols, heads, table.len()];
    KERNELS.launch("grad_table", Grid::elements(table.len()), arguments)?;
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Case, on_card};
    use super::*;
    use crate::cpu::relative_position as cpu;
    use crate::testing::noise;

    #[test]
    fn biases_and_gradients_are_those_of_the_cpu() {
        for (grid, heads) in [((1, 1), 1), ((3, 3), 2), ((2, 5), 3), ((7, 1), 1), ((9, 4), 4)] {
            let tokens = grid.0 * grid.1;
            let (table, grad) = (noise(1, offsets(grid) * heads), noise(2, heads * tokens * tokens));
            let biases = expand(&on_card(&table), grid, heads).unwrap();
            Case::exact("copies").same(&biases, &cpu::expand(&table, grid, heads).unwrap());
            let grad_table = grad_table(&on_card(&grad), grid, heads).unwrap();
            Case::exact("the same order").same(&grad_table, &cpu::grad_table(&grad, grid, heads).unwrap());
        }
    }
}
