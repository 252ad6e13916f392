//! Principal components, for a picture of features.

use rand::Rng as _;

use crate::random::{self, Purpose};

/// Products after which the components are taken as they are.
const MOST_PRODUCTS: usize = 300;
/// A direction that changes by less has converged.
const TOLERANCE: f64 = 1e-10;

/// Vectors seen along the two directions in which they vary most.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Principal {
    /// Where each vector is, from the mean of all.
    pub points: Vec<[f64; 2]>,
    /// The share of the variance that lies in each direction.
    pub explained: [f64; 2],
}

/// The first two principal components of `vectors`, `[N, channels]`, by power iteration, the second in what the first leaves. The sign of a
/// direction is that in which its largest entry is positive.
pub fn principal_components(vectors: &[f32], channels: usize) -> Principal {
    let mut centred = centred(vectors, channels);
    let squares = |values: &[f64]| values.iter().map(|value| value * value).sum::<f64>();
    let total = squares(&centred);
    let mut principal =
        Principal { points: vec![[0.0; 2]; vectors.len() / channels.max(1)], ..Principal::default() };
    for axis in 0..2 {
        let Some(direction) = direction(&centred, channels) else { break };
        for (row, point) in centred.chunks_exact_mut(channels).zip(&mut principal.points) {
            point[axis] = dot(row, &direction);
            row.iter_mut().zip(&direction).for_each(|(value, along)| *value -= point[axis] * along);
        }
        let along: f64 = principal.points.iter().map(|point| point[axis] * point[axis]).sum();
        principal.explained[axis] = along / total;
    }
    principal
}

/// Without their mean.
fn centred(vectors: &[f32], channels: usize) -> Vec<f64> {
    let rows = vectors.chunks_exact(channels.max(1));
    let count = rows.len().max(1) as f64;
    let mut mean = vec![0.0; channels];
    for row in rows.clone() {
        mean.iter_mut().zip(row).for_each(|(mean, value)| *mean += f64::from(*value) / count);
    }
    rows.flat_map(|row| {
        row.iter().zip(&mean).map(|(value, mean)| f64::from(*value) - mean).collect::<Vec<_>>()
    })
    .collect()
}

/// In which centred vectors vary most; `None` if they do not vary.
fn direction(vectors: &[f64], channels: usize) -> Option<Vec<f64>> {
    let mut rng = random::stream(Purpose::Init, &[]);
    let mut direction = unit((0..channels).map(|_| rng.random_range(-1.0..1.0)).collect())?;
    for _ in 0..MOST_PRODUCTS {
        let mut next = vec![0.0; channels];
        for row in vectors.chunks_exact(channels) {
            let along = dot(row, &direction);
            next.iter_mut().zip(row).for_each(|(sum, value)| *sum += along * value);
        }
        let next = unit(next)?;
        let change: f64 = next.iter().zip(&direction).map(|(a, b)| (a - b) * (a - b)).sum();
        direction = next;
        if change < TOLERANCE * TOLERANCE {
            break;
        }
    }
    let largest = direction.iter().copied().max_by(|a, b| a.abs().total_cmp(&b.abs()))?;
    if largest < 0.0 {
        direction.iter_mut().for_each(|value| *value = -*value);
    }
    Some(direction)
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Of length 1; `None` for one without direction.
fn unit(mut vector: Vec<f64>) -> Option<Vec<f64>> {
    let length = dot(&vector, &vector).sqrt();
    vector.iter_mut().for_each(|value| *value /= length);
    (length > 1e-30 && length.is_finite()).then_some(vector)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Vectors of known variance along orthogonal directions, (2, 1, 2) / 3, (-2, 2, 1) / 3 and (1, 2, -2) / 3.
    #[test]
    fn the_directions_of_most_variance_are_found() {
        let directions =
            [[2.0, 1.0, 2.0], [-2.0, 2.0, 1.0], [1.0, 2.0, -2.0]].map(|of: [f32; 3]| of.map(|v| v / 3.0));
        let mut vectors = Vec::new();
        for (direction, scale) in directions.iter().zip([3.0, 2.0, 0.5]) {
            for sign in [-1.0, 1.0] {
                vectors.extend(direction.map(|value| 7.0 + sign * scale * value));
            }
        }
        let Principal { points, explained } = principal_components(&vectors, 3);
        let expected = [[-3.0, 0.0], [3.0, 0.0], [0.0, -2.0], [0.0, 2.0], [0.0, 0.0], [0.0, 0.0]];
        for (point, expected) in points.iter().zip(expected) {
            // The sign of the second direction is open: two of its entries are equally large.
            assert!((point[0] - expected[0]).abs() < 1e-5, "{point:?} {expected:?}");
            assert!((point[1].abs() - f64::abs(expected[1])).abs() < 1e-5, "{point:?} {expected:?}");
        }
        let total = 9.0 + 4.0 + 0.25;
        assert!((explained[0] - 9.0 / total).abs() < 1e-6 && (explained[1] - 4.0 / total).abs() < 1e-6);
    }

    #[test]
    fn vectors_that_do_not_vary_are_at_the_origin() {
        assert_eq!(
            principal_components(&[1.0, 2.0, 1.0, 2.0], 2),
            Principal { points: vec![[0.0; 2]; 2], ..Principal::default() }
        );
        assert_eq!(principal_components(&[], 2).points.len(), 0);
        let line = principal_components(&[0.0, 0.0, 1.0, 1.0], 2);
        assert!((line.explained[0] - 1.0).abs() < 1e-12 && line.explained[1].abs() < 1e-12);
    }
}
