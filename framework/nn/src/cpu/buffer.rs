//! Memory of kernels, used again and again.
//!
//! A training step allocates the same sizes every time. Memory fresh from the system costs a page fault for every 4 KiB and
//! `vec![0.0; len]` a pass over it; a [`Buffer`] costs neither.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};

use crate::Result;
use crate::dry_run::{count_given_back, count_taken, is_dry};

/// Shorter buffers are left to the allocator.
const SHORTEST: usize = 1 << 10;

thread_local! {
    static POOL: RefCell<Pool> = const { RefCell::new(Pool::new()) };
}

/// Values that a kernel computes. Memory from the pool goes to the pool of the thread that drops it.
#[derive(Debug)]
pub struct Buffer {
    values: Vec<f32>,
    /// Whether the pool counts the memory as in use; otherwise the allocator gets it back.
    is_pooled: bool,
}

impl Buffer {
    /// `len` values for a kernel that writes all of them: what they are before is unspecified (those of a former user).
    pub fn unspecified(len: usize) -> Self {
        let found = with_pool(len, |pool| pool.take(len));
        let is_pooled = found.is_some();
        let values = found.flatten().unwrap_or_else(|| {
            count_taken(len);
            vec![0.0; len]
        });
        Self { values, is_pooled }
    }

    /// `len` zeros.
    pub fn zeros(len: usize) -> Self {
        let mut buffer = Self::unspecified(len);
        if !is_dry() {
            buffer.fill(0.0);
        }
        buffer
    }

    /// The values of `slice`.
    pub fn copy(slice: &[f32]) -> Self {
        let mut buffer = Self::unspecified(slice.len());
        if !is_dry() {
            buffer.copy_from_slice(slice);
        }
        buffer
    }

    /// The values, whose memory leaves the pool for good.
    pub fn into_vec(mut self) -> Vec<f32> {
        let values = std::mem::take(&mut self.values);
        count_given_back(values.len());
        if std::mem::take(&mut self.is_pooled) {
            with_pool(values.len(), |pool| pool.in_use = pool.in_use.saturating_sub(values.len()));
        }
        values
    }
}

/// `len` values for a kernel that writes all of them: what they are before is unspecified.
pub fn unspecified(len: usize) -> Result<Buffer> {
    Ok(Buffer::unspecified(len))
}

/// Values of the host in memory of the device.
pub fn upload(values: Vec<f32>) -> Result<Buffer> {
    Ok(values.into())
}

/// Values of the device in memory of the host.
pub fn download(values: &[f32]) -> Result<Vec<f32>> {
    Ok(values.to_vec())
}

/// Copies values of the device to the host.
pub fn read(values: &[f32], to: &mut [f32]) -> Result<()> {
    to.copy_from_slice(values);
    Ok(())
}

/// Replaces values of the device by those of the host.
pub fn write(values: &mut [f32], from: &[f32]) -> Result<()> {
    values.copy_from_slice(from);
    Ok(())
}

/// [`download`] of several.
pub fn download_all(values: &[&[f32]]) -> Result<Vec<Vec<f32>>> {
    Ok(values.iter().map(|values| values.to_vec()).collect())
}

/// `len` zeros.
pub fn zeros(len: usize) -> Result<Buffer> {
    Ok(Buffer::zeros(len))
}

/// The same values once more.
pub fn copy(values: &[f32]) -> Result<Buffer> {
    Ok(Buffer::copy(values))
}

/// The values as products take them, where they are stored in another way: never.
pub fn operand(_: &[f32]) -> Result<Option<Buffer>> {
    Ok(None)
}

/// [`operand`] of a buffer, which may have been computed with it.
pub fn take_operand(_: &mut Buffer) -> Result<Option<Buffer>> {
    Ok(None)
}

/// Whether the values are stored as products take them, and not in `f32`.
pub fn is_rounded(_: &[f32]) -> bool {
    false
}

/// Writes the values of each pair's first to its second, as products take them.
pub fn round_all(pairs: Vec<(&[f32], &mut [f32])>) -> Result<()> {
    pairs.into_iter().for_each(|(from, to)| to.copy_from_slice(from));
    Ok(())
}

/// The values in `f32`, as they are.
pub fn single(values: Buffer) -> Result<Buffer> {
    Ok(values)
}

impl Default for Buffer {
    fn default() -> Self {
        Vec::new().into()
    }
}

impl From<Vec<f32>> for Buffer {
    fn from(values: Vec<f32>) -> Self {
        count_taken(values.len());
        Self { values, is_pooled: false }
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.values
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }
}

impl PartialEq for Buffer {
    fn eq(&self, other: &Self) -> bool {
        self.values == other.values
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        match self.is_pooled {
            true => {
                let values = std::mem::take(&mut self.values);
                with_pool(values.len(), |pool| pool.give(values));
            }
            false => count_given_back(self.values.len()),
        }
    }
}

/// How much more a pool holds than was in use at once, at most.
pub const POOL_FACTOR: f64 = 1.25;

/// The most values of this thread's pool that were in use at once, and the most that it held with those that were free.
pub fn pool_peaks() -> [usize; 2] {
    POOL.with_borrow(|pool| [pool.peak, pool.most_held])
}

/// Calls `with` on this thread's pool, if `len` is long enough for it, and the thread is not ending.
fn with_pool<R>(len: usize, with: impl FnOnce(&mut Pool) -> R) -> Option<R> {
    if len < SHORTEST {
        return None;
    }
    POOL.try_with(|pool| with(&mut pool.borrow_mut())).ok()
}

/// Free memory by length. With what is in use it never holds more than a quarter above what was in use at once: the lengths in
/// use change during a step.
struct Pool {
    free: BTreeMap<usize, Vec<Vec<f32>>>,
    pooled: usize,
    in_use: usize,
    /// The largest `in_use` so far.
    peak: usize,
    /// The largest sum of `in_use` and `pooled` so far.
    most_held: usize,
}

impl Pool {
    const fn new() -> Self {
        Self { free: BTreeMap::new(), pooled: 0, in_use: 0, peak: 0, most_held: 0 }
    }

    /// Counts values that come into use.
    fn count(&mut self, len: usize) {
        self.in_use += len;
        self.peak = self.peak.max(self.in_use);
    }

    /// Memory of exactly that length, if some is free.
    fn take(&mut self, len: usize) -> Option<Vec<f32>> {
        self.count(len);
        let found = self.free.get_mut(&len).and_then(Vec::pop);
        match &found {
            Some(_) => self.pooled -= len,
            None => self.shrink(),
        }
        self.most_held = self.most_held.max(self.pooled + self.in_use);
        found
    }

    fn give(&mut self, values: Vec<f32>) {
        self.in_use = self.in_use.saturating_sub(values.len());
        self.pooled += values.len();
        self.free.entry(values.len()).or_default().push(values);
        self.shrink();
    }

    /// Returns memory to the allocator, the longest first, until the bound holds.
    fn shrink(&mut self) {
        while self.pooled + self.in_use > self.peak + self.peak / 4 {
            let Some(mut longest) = self.free.last_entry() else { return };
            match longest.get_mut().pop() {
                Some(values) => {
                    self.pooled -= values.len();
                    count_given_back(values.len());
                }
                None => drop(longest.remove()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again() {
        let first = Buffer::copy(&[1.0; SHORTEST]);
        let address = first.as_ptr();
        drop(first);
        let second = Buffer::unspecified(SHORTEST);
        assert_eq!(second.as_ptr(), address);
        assert_eq!(Buffer::zeros(SHORTEST)[..], [0.0; SHORTEST]);
        drop(second);
        assert!(Buffer::zeros(SHORTEST).iter().all(|&value| value == 0.0));
    }

    #[test]
    fn the_pool_holds_little_more_than_was_in_use_at_once() {
        for round in 1..20 {
            drop([Buffer::zeros(round * SHORTEST), Buffer::zeros(round * SHORTEST)]);
        }
        let (pooled, peak) = POOL.with_borrow(|pool| (pool.pooled, pool.peak));
        assert_eq!(peak, 2 * 19 * SHORTEST);
        assert!(pooled <= peak + peak / 4, "{pooled} values are kept");
    }

    #[test]
    fn what_leaves_the_pool_or_never_was_in_it_is_not_counted() {
        let values = Buffer::zeros(SHORTEST).into_vec();
        assert_eq!(POOL.with_borrow(|pool| pool.in_use), 0);
        drop(Buffer::from(values));
        assert_eq!(POOL.with_borrow(|pool| (pool.in_use, pool.pooled)), (0, 0));
    }
}
