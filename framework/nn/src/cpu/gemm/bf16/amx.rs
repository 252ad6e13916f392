//! The kernel of AMX. Its intrinsics are unstable in Rust, so it is written in assembly.

use std::arch::asm;
use std::arch::x86_64::__cpuid_count;
use std::marker::PhantomData;
use std::sync::LazyLock;

use super::block::{Block, Sums};

/// Whether the processor has the instructions, and the system gives the process their registers.
pub fn is_available() -> bool {
    /// Of `cpuid` leaf 7, in `edx`: AMX-BF16 and AMX-TILE.
    const FEATURES: u32 = 1 << 22 | 1 << 24;
    static AVAILABLE: LazyLock<bool> =
        LazyLock::new(|| __cpuid_count(7, 0).edx & FEATURES == FEATURES && request_registers());
    *AVAILABLE
}

/// Asks Linux for the registers, for all threads of the process.
#[cfg(target_os = "linux")]
fn request_registers() -> bool {
    const SYS_ARCH_PRCTL: isize = 158;
    const ARCH_REQ_XCOMP_PERM: usize = 0x1023;
    const XFEATURE_XTILEDATA: usize = 18;
    let result: isize;
    // SAFETY: the call takes two numbers, touches no memory, and clobbers what is named.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") SYS_ARCH_PRCTL => result,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") XFEATURE_XTILEDATA,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result == 0
}

#[cfg(not(target_os = "linux"))]
fn request_registers() -> bool {
    false
}

/// `ldtilecfg`'s operand.
#[repr(C, align(64))]
struct Config {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// The registers of the calling thread, each for 16 rows of 64 bytes. They are given back when this is dropped.
pub struct Tiles(PhantomData<*mut ()>);

impl Tiles {
    /// # Safety
    /// [`is_available`].
    pub unsafe fn configure() -> Self {
        static EIGHT: Config = {
            let mut config =
                Config { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
            let mut tile = 0;
            while tile < 8 {
                config.row_bytes[tile] = 64;
                config.rows[tile] = 16;
                tile += 1;
            }
            config
        };
        // SAFETY: the thread may use the registers, as the caller says; the operand has the form that the instruction reads.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const EIGHT, options(nostack, readonly)) };
        Self(PhantomData)
    }

    /// The products of two rows of blocks, line by line, with two columns of blocks, pair by pair: row by row.
    ///
    /// # Panics
    /// If there are no blocks, or not as many of each.
    #[allow(clippy::unused_self)] // That there is one says that the registers are configured.
    pub fn multiply(&self, sums: &mut [Sums; 4], a: [&[Block]; 2], b: [&[Block]; 2]) {
        let count = a[0].len();
        assert!(count > 0 && [a[1], b[0], b[1]].iter().all(|blocks| blocks.len() == count));
        // SAFETY: the registers are configured for this thread, which `self` does not leave. The loop reads `count` blocks of each factor,
        // and at the end writes the four sums.
        unsafe {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "2:",
                "tileloadd tmm4, [{a0} + {stride}*1]",
                "tileloadd tmm6, [{b0} + {stride}*1]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{b1} + {stride}*1]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{a1} + {stride}*1]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {a0}, {block}",
                "add {a1}, {block}",
                "add {b0}, {block}",
                "add {b1}, {block}",
                "dec {count}",
                "jnz 2b",
                "tilestored [{sums} + {stride}*1], tmm0",
                "tilestored [{sums} + {stride}*1 + {block}], tmm1",
                "tilestored [{sums} + {stride}*1 + 2*{block}], tmm2",
                "tilestored [{sums} + {stride}*1 + 3*{block}], tmm3",
                a0 = inout(reg) a[0].as_ptr() => _,
                a1 = inout(reg) a[1].as_ptr() => _,
                b0 = inout(reg) b[0].as_ptr() => _,
                b1 = inout(reg) b[1].as_ptr() => _,
                count = inout(reg) count => _,
                sums = in(reg) sums.as_mut_ptr(),
                stride = in(reg) 64_usize,
                block = const size_of::<Block>(),
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: the thread may use the registers, as whoever configured them said.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}
