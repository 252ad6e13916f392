//! Loops compiled for the vectors that the machine has.

use std::env::consts::ARCH;
use std::fmt;

/// The widest vectors of the machine that loops are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vectors {
    /// Those of the oldest machine of the architecture.
    Oldest,
    /// AVX2.
    Avx2,
    /// AVX-512, with its parts F, BW, DQ and VL.
    Avx512,
}

impl Vectors {
    /// Those of this machine.
    #[inline]
    pub fn detected() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
            {
                return Self::Avx512;
            }
            if is_x86_feature_detected!("avx2") {
                return Self::Avx2;
            }
        }
        Self::Oldest
    }
}

impl fmt::Display for Vectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Oldest => write!(f, "those of every {ARCH}"),
            Self::Avx2 => f.write_str("AVX2"),
            Self::Avx512 => f.write_str("AVX-512"),
        }
    }
}

/// Runs `work` compiled for the widest vectors that this machine has.
///
/// The build targets the oldest machine of the architecture; what is inlined into `work` (mark it `#[inline(always)]`)
/// is compiled for AVX2 and AVX-512 as well. Results are the same bits on all: nothing is fused or reordered.
#[inline]
pub fn vectorized<R>(work: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
        fn avx512<R>(work: impl FnOnce() -> R) -> R {
            work()
        }
        #[target_feature(enable = "avx2")]
        fn avx2<R>(work: impl FnOnce() -> R) -> R {
            work()
        }
        match Vectors::detected() {
            // SAFETY: the machine has these features, as just checked.
            Vectors::Avx512 => return unsafe { avx512(work) },
            // SAFETY: the machine has the feature, as just checked.
            Vectors::Avx2 => return unsafe { avx2(work) },
            Vectors::Oldest => {}
        }
    }
    work()
}

/// Defines a function that is compiled twice, for the oldest machine and for AVX2, and that picks when it is called.
///
/// A large closure is not inlined into [`vectorized`], and then runs with the vectors of the oldest machine; the body of
/// this function always is. What it calls has to be `#[inline(always)]`. AVX-512 is left out: register tiles of a few short
/// vectors, which this is for, become shuffles with it (measured: ten times slower).
#[macro_export]
macro_rules! multiversion {
    ($(#[$attribute:meta])* $visibility:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $result:ty)? $body:block) => {
        $(#[$attribute])*
        $visibility fn $name($($arg: $type),*) $(-> $result)? {
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            fn baseline($($arg: $type),*) $(-> $result)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2")]
                #[allow(clippy::too_many_arguments)]
                fn avx2($($arg: $type),*) $(-> $result)? {
                    baseline($($arg),*)
                }
                if is_x86_feature_detected!("avx2") {
                    // SAFETY: the machine has the feature, as just checked.
                    return unsafe { avx2($($arg),*) };
                }
            }
            baseline($($arg),*)
        }
    };
}
pub use multiversion;
