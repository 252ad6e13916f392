//! Interpolation of position embeddings to another grid.

/// Interpolates the embeddings of a grid of positions to another one, as `interpolate_pos_embed` of the
/// official code: bicubic with `a = -0.75`, pixel centres aligned as by `align_corners=False`, not smoothed
/// when the grid shrinks. `values` are `[prefix + from.0 * from.1, dim]`; embeddings of prefix tokens stay.
pub fn interpolate_positions(
    values: &[f32],
    dim: usize,
    prefix: usize,
    from: (usize, usize),
    to: (usize, usize),
) -> Vec<f32> {
    let (kept, grid) = values.split_at(prefix * dim);
    let rows = Axis::new(from.0, to.0);
    let cols = Axis::new(from.1, to.1);
    let mut output = kept.to_vec();
    for row in &rows.taps {
        for col in &cols.taps {
            let at = output.len();
            output.resize(at + dim, 0.0);
            for &(y, row_weight) in row {
                for &(x, col_weight) in col {
                    let source = &grid[(y * from.1 + x) * dim..][..dim];
                    let weight = (row_weight * col_weight) as f32;
                    for (output, value) in output[at..].iter_mut().zip(source) {
                        *output += weight * value;
                    }
                }
            }
        }
    }
    output
}

/// For every position of the new axis the four of the old one that it is made of, with their weights.
struct Axis {
    taps: Vec<[(usize, f64); 4]>,
}

impl Axis {
    fn new(from: usize, to: usize) -> Self {
        let taps = |position: usize| {
            let at = (position as f64 + 0.5) * from as f64 / to as f64 - 0.5;
            let first = at.floor();
            let part = at - first;
            let clamped = |offset: f64| (first + offset).clamp(0.0, from as f64 - 1.0) as usize;
            [-1.0, 0.0, 1.0, 2.0].map(|offset| (clamped(offset), cubic((offset - part).abs())))
        };
        Self { taps: (0..to).map(taps).collect() }
    }
}

/// The weight at a distance (R. Keys, 1981).
fn cubic(distance: f64) -> f64 {
    const A: f64 = -0.75;
    let d = distance;
    if d <= 1.0 { ((A + 2.0) * d - (A + 3.0)) * d * d + 1.0 } else { A * (((d - 5.0) * d + 8.0) * d - 4.0) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::read;
    use convmae_nn::testing::{assert_close, wide};

    #[test]
    fn equals_the_official_interpolation() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../tests/data/finetune/position_interpolation.safetensors"
        );
        let tensors = read(path.as_ref()).unwrap().tensors;
        let source = tensors.get("pos_embed.14x14.src").unwrap().to_f32();
        for side in [8, 14, 32, 40] {
            let expected = tensors.get(&format!("pos_embed.to_{side}x{side}")).unwrap().to_f32();
            let own = interpolate_positions(&source, 24, 0, (14, 14), (side, side));
            assert_close(&own, &wide(&expected), 3e-6);
        }
    }

    #[test]
    fn prefix_tokens_stay_and_axes_are_independent() {
        let values = [9.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let own = interpolate_positions(&values, 1, 1, (2, 3), (4, 3));
        assert_eq!(own.len(), 13);
        assert_close(&own[..1], &[9.0], 1e-7);
        // Each row is a mixture of the two rows, which differ by 3 everywhere.
        assert!(own[1..].chunks(3).all(|row| (row[1] - row[0] - 1.0).abs() < 1e-6));
    }
}
