//! Biases of attention scores that depend on the offset between two positions of a grid (Swin, `BEiT`).
//!
//! A table has a row for every offset, `[(2 R - 1)(2 C - 1), H]`; the row of a query and a key is
//! `(dy + R - 1)(2 C - 1) + dx + C - 1`, with the offsets `dy`, `dx` from the key to the query.

use rayon::prelude::*;

use super::Buffer;
use crate::Result;

/// The number of offsets on a grid of rows and columns.
pub fn offsets((rows, cols): (usize, usize)) -> usize {
    (2 * rows).saturating_sub(1) * (2 * cols).saturating_sub(1)
}

/// For every query and key of the grid the row of the table, `[N, N]`.
pub fn index(grid: (usize, usize)) -> Vec<u32> {
    let tokens = grid.0 * grid.1;
    let mut index = Vec::with_capacity(tokens * tokens);
    for query in 0..tokens {
        rows_of(query, grid, |_, rows| index.extend(rows.map(|row| row as u32)));
    }
    index
}

/// The biases of all scores, `[H, N, N]`.
pub fn expand(table: &[f32], grid: (usize, usize), heads: usize) -> Result<Buffer> {
    let tokens = grid.0 * grid.1;
    let mut biases = Buffer::unspecified(heads * tokens * tokens);
    biases.par_chunks_mut(tokens).enumerate().for_each(|(at, biases)| {
        let (head, query) = (at / tokens, at % tokens);
        rows_of(query, grid, |keys, rows| {
            for (bias, row) in biases[keys..][..grid.1].iter_mut().zip(rows) {
                *bias = table[row * heads + head];
            }
        });
    });
    Ok(biases)
}

/// The gradient of the table from that of the biases.
pub fn grad_table(grad: &[f32], grid: (usize, usize), heads: usize) -> Result<Buffer> {
    let (tokens, offsets) = (grid.0 * grid.1, offsets(grid));
    let of_head = |grad: &[f32]| {
        let mut sums = vec![0.0; offsets];
        for (query, grad) in grad.chunks_exact(tokens).enumerate() {
            rows_of(query, grid, |keys, rows| {
                for (row, grad) in rows.zip(&grad[keys..][..grid.1]) {
                    sums[row] += grad;
                }
            });
        }
        sums
    };
    let by_head: Vec<Vec<f32>> = grad.par_chunks_exact(tokens * tokens).map(of_head).collect();
    let mut table = Buffer::unspecified(offsets * heads);
    for (row, table) in table.chunks_exact_mut(heads).enumerate() {
        table.iter_mut().zip(&by_head).for_each(|(value, sums)| *value = sums[row]);
    }
    Ok(table)
}

/// Calls `visit` for every row of keys: with the first key of it, and the table's rows of the keys in it.
fn rows_of(
    query: usize,
    (rows, cols): (usize, usize),
    mut visit: impl FnMut(usize, std::iter::Rev<std::ops::Range<usize>>),
) {
    let (y, x) = (query / cols, query % cols);
    for key_row in 0..rows {
        let first = (y + rows - 1 - key_row) * (2 * cols - 1);
        visit(key_row * cols, (first + x..first + x + cols).rev());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::noise;

    /// By the formula.
    fn row(query: usize, key: usize, (rows, cols): (usize, usize)) -> usize {
        let (dy, dx) = (query / cols + rows - 1 - key / cols, query % cols + cols - 1 - key % cols);
        dy * (2 * cols - 1) + dx
    }

    #[test]
    fn the_index_is_that_of_the_formula() {
        for grid in [(1, 1), (3, 3), (2, 5), (4, 1)] {
            let tokens = grid.0 * grid.1;
            let expected: Vec<u32> =
                (0..tokens * tokens).map(|at| row(at / tokens, at % tokens, grid) as u32).collect();
            assert_eq!(index(grid), expected);
            assert_eq!(expected.iter().max(), Some(&(offsets(grid) as u32 - 1)));
        }
    }

    #[test]
    fn the_gradient_is_the_transpose_of_the_expansion() {
        let (grid, heads) = ((3, 4), 2);
        let (table, grad) = (noise(1, offsets(grid) * heads), noise(2, heads * 12 * 12));
        let dot = |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum() };
        let (forward, backward) =
            (expand(&table, grid, heads).unwrap(), grad_table(&grad, grid, heads).unwrap());
        assert!((dot(&forward, &grad) - dot(&table, &backward)).abs() < 1e-5);
        for (at, bias) in forward.iter().enumerate() {
            let (head, query, key) = (at / 144, at / 12 % 12, at % 12);
            assert_eq!(*bias, table[row(query, key, grid) * heads + head]);
        }
    }
}
