//! What the machine can do at most, measured: the roofs that a training step and kernels are compared with.

use std::time::{Duration, Instant};

use super::Result;

#[cfg(feature = "cuda")]
use composed as implementation;
#[cfg(not(feature = "cuda"))]
use kernel as implementation;

/// Products of which the fastest counts.
const PRODUCTS: usize = 20;

/// Billions of floating-point operations per second of a large matrix product of the kind that the operations use.
///
/// # Errors
/// If the device cannot hold three matrices.
pub fn matmul_gflops() -> Result<f64> {
    let (size, best) = implementation::best_of(PRODUCTS)?;
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

/// Values that are not all alike.
fn values(len: usize) -> Vec<f32> {
    (0..len).map(|i| (i % 97) as f32 * 0.01).collect()
}

/// The shortest of several measurements.
fn shortest(count: usize, mut measure: impl FnMut() -> Result<Duration>) -> Result<Duration> {
    let mut best = Duration::MAX;
    for _ in 0..count {
        best = best.min(measure()?);
    }
    Ok(best)
}

#[cfg(not(feature = "cuda"))]
mod kernel {
    use std::time::{Duration, Instant};

    use super::{shortest, values};
    use crate::Result;
    use crate::backend::gemm::{Matrix, Threads, gemm};
    use crate::backend::{Buffer, Output};

    pub fn best_of(count: usize) -> Result<(usize, Duration)> {
        const SIZE: usize = 1536;
        let a = values(SIZE * SIZE);
        let mut out = Buffer::zeros(SIZE * SIZE);
        let best = shortest(count, || {
            let start = Instant::now();
            let (x, w) = (Matrix::new(&a, SIZE, SIZE), Matrix::new(&a, SIZE, SIZE));
            gemm(&mut out, Output::Replace, 1.0, x, w, Threads::All);
            Ok(start.elapsed())
        })?;
        Ok((SIZE, best))
    }
}

#[cfg(feature = "cuda")]
mod composed {
    use std::time::{Duration, Instant};

    use dfdx::tensor_ops::TryMatMul as _;

    use super::{shortest, values};
    use crate::device::synchronize;
    use crate::tensor::{Tensor, Typed};
    use crate::{Result, Tape};

    pub fn best_of(count: usize) -> Result<(usize, Duration)> {
        // 1.1 TFLOP: milliseconds on a card, against microseconds of starting it.
        const SIZE: usize = 8192;
        let a = Tensor::from_vec(values(SIZE * SIZE), (SIZE, SIZE), &Tape::none())?.typed((SIZE, SIZE))?;
        let best = shortest(count, || {
            synchronize()?;
            let start = Instant::now();
            let _product: Typed<(usize, usize)> = a.clone().try_matmul(a.clone())?;
            synchronize()?;
            Ok(start.elapsed())
        })?;
        Ok((SIZE, best))
    }
}
