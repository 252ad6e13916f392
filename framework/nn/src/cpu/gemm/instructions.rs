//! What a processor multiplies bf16 with.

use std::fmt;
use std::sync::LazyLock;

use crate::device::{self, Precision};

#[cfg(target_arch = "x86_64")]
use super::bf16;

/// Instructions that multiply bf16 and add up in `f32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instructions {
    /// Those of AVX-512 on vectors.
    Avx512,
    /// Those on tiles.
    Amx,
}

impl Instructions {
    /// Those that are faster than the ones of `f32` on this processor. It needs a system that lets the process use them.
    pub fn detected() -> Option<Self> {
        static DETECTED: LazyLock<Option<Instructions>> = LazyLock::new(Instructions::detect);
        *DETECTED
    }

    /// Those that products take now, if they take bf16. A program for cards has the kernels of the CPU to be compared with.
    pub(super) fn asked_for() -> Option<Self> {
        let asked = !cfg!(feature = "cuda") && device::precision() == Precision::Bf16;
        asked.then(Self::detected).flatten()
    }

    #[cfg(target_arch = "x86_64")]
    fn detect() -> Option<Self> {
        let known = Self::all().last();
        // Intel's processors take four times as long for a vector of bf16 as for one of `f32`, which has half the values.
        known.filter(|&instructions| instructions != Self::Avx512 || !is_intel())
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn detect() -> Option<Self> {
        None
    }

    /// All that the processor has, however fast they are, the fastest last.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn all() -> impl Iterator<Item = Self> {
        let vectors = bf16::has_vectors().then_some(Self::Avx512);
        let tiles = (vectors.is_some() && bf16::has_tiles()).then_some(Self::Amx);
        vectors.into_iter().chain(tiles)
    }
}

impl fmt::Display for Instructions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Avx512 => "AVX512-BF16",
            Self::Amx => "AMX-BF16",
        })
    }
}

#[cfg(target_arch = "x86_64")]
fn is_intel() -> bool {
    let vendor = std::arch::x86_64::__cpuid(0);
    [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).concat() == b"GenuineIntel"
}
