//! A pass of a few images whose memory is counted: how much a training step needs is known before it is taken.
//!
//! On the CPU everything happens as in a step, with the same operations, tapes and buffers, but matrix products and initial values
//! are left out, and memory that nothing is written to is never the process's. A card computes it all: there it takes a moment.

use std::cell::Cell;

use super::device;

thread_local! {
    /// What this thread's dry run holds.
    static TALLY: Cell<Option<Held>> = const { Cell::new(None) };
}

/// Bytes of buffers: on the CPU those of this thread's dry run, on a card those of this process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    /// Now.
    pub now: u64,
    /// At most, since [`forget_peak`].
    pub peak: u64,
}

/// Does `pass` dry, on a thread of its own: kernels are not to be shared with other threads, which would not know. On a card,
/// does it. `None` where there is no thread to be had.
pub fn dry_run<R: Send>(pass: impl FnOnce() -> R + Send) -> Option<R> {
    if cfg!(feature = "cuda") {
        return Some(pass());
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().ok()?;
    pool.install(|| {
        TALLY.set(Some(Held::default()));
        let result = pass();
        TALLY.set(None);
        Some(result)
    })
}

/// Whether nothing is computed here.
pub(crate) fn is_dry() -> bool {
    TALLY.get().is_some()
}

/// What is held. Nothing outside of a dry run on the CPU.
pub fn held() -> Held {
    device::held().or(TALLY.get()).unwrap_or_default()
}

/// Begins to look for the peak anew.
pub fn forget_peak() {
    device::forget_peak();
    TALLY.set(TALLY.get().map(|held| Held { peak: held.now, ..held }));
}

/// Counts values of the CPU's memory that a buffer takes.
pub(crate) fn count_taken(values: usize) {
    count(|now| now + (values * size_of::<f32>()) as u64);
}

/// Counts values that it gives back.
pub(crate) fn count_given_back(values: usize) {
    count(|now| now.saturating_sub((values * size_of::<f32>()) as u64));
}

fn count(change: impl FnOnce(u64) -> u64) {
    // A thread that ends has no tally any more.
    let _ = TALLY.try_with(|tally| {
        if let Some(Held { now, peak }) = tally.get() {
            let now = change(now);
            tally.set(Some(Held { now, peak: peak.max(now) }));
        }
    });
}

#[cfg(all(test, not(feature = "cuda")))]
mod tests {
    use super::*;
    use crate::backend::{unspecified, upload, zeros};
    use crate::layers::Linear;
    use crate::random::{Purpose, stream};
    use crate::{Context, Scope, Tensor};

    #[test]
    fn what_is_held_and_what_was_held_at_most_are_counted() {
        let counted = dry_run(|| {
            // Too short for the pool.
            let first = upload(vec![0.0; 250]).unwrap();
            drop(zeros(500).unwrap());
            let with_one = held();
            forget_peak();
            let second = first.into_vec();
            drop(second);
            (with_one, held())
        });
        let with_one = Held { now: 1000, peak: 3000 };
        assert_eq!(counted, Some((with_one, Held { now: 0, peak: 1000 })));
        assert!(!is_dry() && held() == Held::default());
    }

    #[test]
    fn what_the_pool_keeps_is_held() {
        let bytes = dry_run(|| {
            drop(unspecified(1 << 20).unwrap());
            drop(unspecified(1 << 20).unwrap());
            held()
        });
        assert_eq!(bytes, Some(Held { now: 4 << 20, peak: 4 << 20 }));
    }

    #[test]
    fn products_and_initial_values_are_left_out_but_not_their_memory() {
        const SIDE: usize = 512;
        let bytes = dry_run(|| {
            let scope = Scope::new(0);
            let linear = Linear::new(&scope, SIDE, SIDE);
            let before = held().now;
            let x = Tensor::from_vec(vec![1.0; SIDE], (1, SIDE), &crate::Tape::none()).unwrap();
            let y = linear.forward(x, &Context::eval(stream(Purpose::Evaluate, &[0]))).unwrap();
            assert!(y.to_vec().unwrap().iter().all(|&value| value == 0.0));
            assert!(before >= (SIDE * SIDE * size_of::<f32>()) as u64);
            drop(zeros(1 << 20));
            held().peak - before
        });
        assert!(bytes.is_some_and(|bytes| bytes >= 4 << 20), "{bytes:?}");
    }
}
