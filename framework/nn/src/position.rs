//! Positions: the grid of an embedding, and the fixed sin-cos table.

use super::{Error, Result};

/// What the rows of a position embedding stand for: prefix tokens, then a grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Positions {
    /// Tokens before the grid (1 with a cls token).
    pub prefix: usize,
    /// Rows of the grid.
    pub rows: usize,
    /// Columns of the grid.
    pub cols: usize,
}

/// The sin-cos table of a `rows x cols` grid, `[prefix + rows * cols, dim]`, with zeros for the prefix tokens
/// (`get_2d_sincos_pos_embed` of the official `util/pos_embed.py`).
///
/// The first half of a row encodes the column, the second half the row, each as sines, then cosines. Computed in f64, then
/// rounded, as there. Fails unless `dim` is a multiple of 4.
pub fn sin_cos_table(rows: usize, cols: usize, dim: usize, prefix: usize) -> Result<Vec<f32>> {
    if dim == 0 || !dim.is_multiple_of(4) {
        return Err(Error::Value(format!(
            "a sin-cos position table needs a multiple of 4 channels, not {dim}"
        )));
    }
    let quarter = dim / 4;
    let frequency = |i: usize| 1.0 / 10_000_f64.powf(i as f64 / quarter as f64);
    let mut table = vec![0.0; prefix * dim];
    table.reserve(rows * cols * dim);
    for position in 0..rows * cols {
        for coordinate in [position % cols, position / cols] {
            let angles = (0..quarter).map(|i| coordinate as f64 * frequency(i));
            table.extend(angles.clone().map(|angle| angle.sin() as f32));
            table.extend(angles.map(|angle| angle.cos() as f32));
        }
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::official_state;

    #[test]
    fn the_tables_are_those_of_the_official_checkpoint() {
        let state = official_state();
        for name in ["pos_embed", "decoder_pos_embed"] {
            let tensor = state.tensor(name).unwrap();
            let expected: Vec<f32> = bytemuck::pod_collect_to_vec(tensor.data());
            assert_eq!(sin_cos_table(14, 14, tensor.shape()[2], 0).unwrap(), expected, "{name}");
        }
    }

    #[test]
    fn the_first_half_encodes_the_column() {
        let table = sin_cos_table(2, 3, 8, 1).unwrap();
        assert_eq!(table[..8], [0.0; 8]);
        // Row 1, column 2.
        let row: Vec<f64> = table[6 * 8..7 * 8].iter().map(|&value| f64::from(value)).collect();
        let expected = [2.0, 0.02, 1.0, 0.01].map(f64::sin_cos);
        let expected = [
            [expected[0].0, expected[1].0, expected[0].1, expected[1].1],
            [expected[2].0, expected[3].0, expected[2].1, expected[3].1],
        ];
        for (value, expected) in row.iter().zip(expected.as_flattened()) {
            assert!((value - expected).abs() < 1e-7, "{row:?}");
        }
    }

    #[test]
    fn an_odd_width_is_refused() {
        assert!(sin_cos_table(2, 2, 6, 0).is_err());
    }
}
