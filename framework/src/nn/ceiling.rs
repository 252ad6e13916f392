//! What the machine can do at most, measured: the roofs that kernels are compared with.

use std::time::Instant;

use super::kernels::gemm::{Matrix, Threads, gemm};
use super::kernels::{Buffer, Output};

/// Floating-point operations per second of a large matrix product: the best of several.
pub fn matmul() -> f64 {
    const SIZE: usize = 1536;
    let a: Vec<f32> = (0..SIZE * SIZE).map(|i| (i % 97) as f32 * 0.01).collect();
    let mut out = Buffer::zeros(SIZE * SIZE);
    let mut multiply = || {
        let start = Instant::now();
        let (x, w) = (Matrix::new(&a, SIZE, SIZE), Matrix::new(&a, SIZE, SIZE));
        gemm(&mut out, Output::Replace, 1.0, x, w, Threads::All);
        start.elapsed()
    };
    let best = (0..20).map(|_| multiply()).min().unwrap_or_default();
    2.0 * (SIZE as f64).powi(3) / best.as_secs_f64()
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
