//! A pass without arithmetic, whose memory is counted: how much a training step needs is known before it is taken.
//!
//! Everything happens as in a step on the CPU, with the same operations, tapes and buffers, but matrix products and initial
//! values are left out: a dry run of a few images takes a moment, and memory that nothing is written to is never the process's.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// What this thread's dry run holds.
    static TALLY: Cell<Option<Tally>> = const { Cell::new(None) };
}

/// Bytes since the dry run began.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    live: i64,
    peak: i64,
}

/// Does `pass` dry, on a thread of its own: kernels are not to be shared with other threads, which would not know. `None`
/// where the backend computes on a card, or there is no thread to be had.
pub fn dry_run<R: Send>(pass: impl FnOnce() -> R + Send) -> Option<R> {
    if cfg!(feature = "cuda") {
        return None;
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().ok()?;
    pool.install(|| {
        TALLY.set(Some(Tally::default()));
        let result = pass();
        TALLY.set(None);
        Some(result)
    })
}

/// Whether nothing is computed here.
pub fn is_dry() -> bool {
    TALLY.get().is_some()
}

/// Bytes that the dry run holds now.
pub fn live() -> u64 {
    TALLY.get().map_or(0, |tally| tally.live.max(0) as u64)
}

/// The most bytes that it has held since [`forget_peak`].
pub fn peak() -> u64 {
    TALLY.get().map_or(0, |tally| tally.peak.max(0) as u64)
}

/// Begins to look for the peak anew.
pub fn forget_peak() {
    TALLY.set(TALLY.get().map(|tally| Tally { peak: tally.live, ..tally }));
}

/// The system's allocator, which counts what a dry run holds.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count(bytes: i64) {
    // A thread that ends has no tally any more.
    let _ = TALLY.try_with(|tally| {
        if let Some(Tally { live, peak }) = tally.get() {
            let live = live + bytes;
            tally.set(Some(Tally { live, peak: peak.max(live) }));
        }
    });
}

// SAFETY: every request goes to the system's allocator as it is, and counting it allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as i64 - layout.size() as i64);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(block, layout, size) }
    }
}

#[cfg(all(test, not(feature = "cuda")))]
mod tests {
    use super::*;
    use crate::backend::zeros;
    use crate::layers::Linear;
    use crate::random::{Purpose, stream};
    use crate::{Context, Scope, Tensor};

    #[test]
    fn what_is_held_and_what_was_held_at_most_are_counted() {
        let counted = dry_run(|| {
            let before = live();
            let held = vec![0_u8; 1000];
            drop(vec![0_u8; 5000]);
            let counted = (live() - before, peak() - before);
            drop(held);
            forget_peak();
            (counted, live() - before, peak() - before)
        });
        assert_eq!(counted, Some(((1000, 6000), 0, 0)));
        assert!(!is_dry() && live() == 0);
    }

    #[test]
    fn products_and_initial_values_are_left_out_but_not_their_memory() {
        const SIDE: usize = 512;
        let bytes = dry_run(|| {
            let scope = Scope::new(0);
            let linear = Linear::new(&scope, SIDE, SIDE);
            let before = live();
            let x = Tensor::from_vec(vec![1.0; SIDE], (1, SIDE), &crate::Tape::none()).unwrap();
            let y = linear.forward(x, &Context::eval(stream(Purpose::Evaluate, &[0]))).unwrap();
            assert!(y.to_vec().unwrap().iter().all(|&value| value == 0.0));
            assert!(before >= (SIDE * SIDE * size_of::<f32>()) as u64);
            drop(zeros(1 << 20));
            peak() - before
        });
        assert!(bytes.is_some_and(|bytes| bytes >= 4 << 20), "{bytes:?}");
    }
}
