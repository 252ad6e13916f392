//! What a kernel has to do at least, and how fast this machine could do it.

use convmae_nn::ceiling;
use convmae_nn::device::{self, Precision};

/// Bytes of a value.
const VALUE: f64 = size_of::<f32>() as f64;

/// The least work that a kernel's result takes.
#[derive(Clone, Copy)]
pub struct Work {
    /// Additions, multiplications and other arithmetic on single values; a fused multiply-add counts as two.
    pub flops: f64,
    /// Bytes that are read, and those that are written.
    pub bytes: f64,
    /// Bytes of the arrays, each once: what has to stay in a cache.
    footprint: f64,
}

impl Work {
    pub fn flops(flops: usize) -> Self {
        Self { flops: flops as f64, bytes: 0.0, footprint: 0.0 }
    }

    /// So many values are read.
    pub fn reads(self, values: usize) -> Self {
        self.moves(values, 1.0)
    }

    /// So many values are written.
    pub fn writes(self, values: usize) -> Self {
        self.moves(values, 1.0)
    }

    /// So many values are read and replaced.
    pub fn updates(self, values: usize) -> Self {
        self.moves(values, 2.0)
    }

    fn moves(self, values: usize, times: f64) -> Self {
        let size = values as f64 * VALUE;
        Self { bytes: self.bytes + times * size, footprint: self.footprint + size, ..self }
    }
}

/// What bounds a kernel from below.
pub struct Roof {
    pub seconds: f64,
    /// The arithmetic, or the copy that it is compared with.
    pub name: String,
}

/// What this machine can do at most, measured.
pub struct Roofs {
    /// Of products in `f32`, and in bf16.
    flops_per_s: [f64; 2],
    /// Footprints in bytes, ascending, and the bytes per second of a copy within them.
    copies: Vec<(usize, f64)>,
}

impl Roofs {
    /// Copies from 1 MiB (in the caches of the cores) to 256 MiB (in memory).
    const FOOTPRINTS: std::ops::RangeInclusive<u32> = 20..=28;

    pub fn measure() -> Self {
        let copies = Self::FOOTPRINTS.map(|power| (1 << power, ceiling::copy(1 << power))).collect();
        let flops_per_s = [Precision::F32, Precision::Bf16].map(|precision| {
            let gflops = device::set_precision(Some(precision)).and_then(|()| ceiling::matmul_gflops());
            gflops.unwrap_or(f64::NAN) * 1e9
        });
        Self { flops_per_s, copies }
    }

    /// The longer of the times that the arithmetic takes at the speed of a product, and that moving the bytes takes at the speed of a
    /// copy with the next larger footprint.
    pub fn of(&self, work: &Work, precision: Precision) -> Roof {
        let arithmetic = work.flops / self.flops_per_s[usize::from(precision == Precision::Bf16)];
        let fits = |&&(footprint, _): &&(usize, f64)| footprint as f64 >= work.footprint;
        let copy = self.copies.iter().find(fits).or(self.copies.last());
        match copy.map(|&(footprint, speed)| (footprint, work.bytes / speed)) {
            Some((footprint, seconds)) if seconds > arithmetic => {
                Roof { seconds, name: format!("copy {} MiB", footprint >> 20) }
            }
            _ => Roof { seconds: arithmetic, name: "matmul".to_owned() },
        }
    }

    pub fn print(&self) {
        let [f32, bf16] = self.flops_per_s.map(|flops| flops / 1e9);
        println!("\nmatmul 1536^3: {f32:.0} GFLOP/s, in bf16 {bf16:.0} GFLOP/s");
        for (footprint, speed) in &self.copies {
            println!("copy {:>4} MiB: {:>6.1} GB/s", footprint >> 20, speed / 1e9);
        }
    }
}
