//! What the machine can do at most, measured: the roofs that a training step and kernels are compared with.

use std::time::{Duration, Instant};

use super::Result;
use super::backend::device::LARGE_MATRIX;
use super::backend::{linear, operand, upload};
use super::device::synchronize;

/// Products of which the fastest counts.
const PRODUCTS: usize = 20;

/// Billions of floating-point operations per second of a large matrix product of the kind that the operations use.
///
/// # Errors
/// If the device cannot hold two matrices.
pub fn matmul_gflops() -> Result<f64> {
    let size = LARGE_MATRIX;
    // Values that are not all alike.
    let values = (0..size * size).map(|at| (at % 97) as f32 * 0.01).collect();
    let a = upload(values)?;
    let a = operand(&a)?.unwrap_or(a);
    let mut best = Duration::MAX;
    for _ in 0..PRODUCTS {
        synchronize()?;
        let start = Instant::now();
        let _product = linear::forward(&a, &a, None, size, size)?;
        synchronize()?;
        best = best.min(start.elapsed());
    }
    Ok(2.0 * (size as f64).powi(3) / best.as_secs_f64() / 1e9)
}

/// Bytes read and written per second when every thread copies between two arrays of its own, `footprint` bytes all together:
/// the best of several. A footprint that fits into a cache gives the speed of that cache.
pub fn copy(footprint: usize) -> f64 {
    /// Bytes of one measurement, for small arrays are copied too fast to be timed once.
    const VOLUME: usize = 1 << 27;
    let threads = rayon::current_num_threads();
    let len = (footprint / (2 * size_of::<f32>()) / threads).max(1);
    let repetitions = VOLUME.div_ceil(footprint);
    let seconds = rayon::broadcast(|_| {
        let (from, mut to) = (vec![1.0_f32; len], vec![0.0_f32; len]);
        let mut measure = || {
            let start = Instant::now();
            for _ in 0..repetitions {
                to.copy_from_slice(std::hint::black_box(&from));
                std::hint::black_box(&mut to);
            }
            start.elapsed().as_secs_f64()
        };
        (0..8).map(|_| measure()).fold(f64::INFINITY, f64::min)
    });
    let slowest = seconds.into_iter().fold(0.0, f64::max);
    (2 * size_of::<f32>() * len * threads * repetitions) as f64 / slowest
}
