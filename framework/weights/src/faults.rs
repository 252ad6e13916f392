//! Faults on request, at the points where files are written: what a run or a sweep leaves behind is tested by
//! ending it at each of them. A release build has none.
//!
//! The variable `WRITE_FAULT` of a build with debug assertions is `kill@12`, which ends the process at the
//! twelfth point as a signal would, or `full@12`, from which on nothing more fits on the disk.

use std::io;

/// What is done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Point {
    /// Bytes go to a file.
    Write,
    /// A name in a directory changes or has changed: a file was renamed, or is to be removed.
    Directory,
}

/// Passes a point of writing.
///
/// # Errors
/// Where the disk is to be full, at points that need room.
#[cfg(debug_assertions)]
pub(crate) fn pass(point: Point) -> io::Result<()> {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static PASSED: AtomicU64 = AtomicU64::new(0);
    static FAULT: OnceLock<Option<(bool, u64)>> = OnceLock::new();
    let fault = FAULT.get_or_init(|| {
        let wanted = std::env::var("WRITE_FAULT").ok()?;
        let (kind, number) = wanted.split_once('@')?;
        Some((kind == "kill", number.parse().ok()?))
    });
    let passed = PASSED.fetch_add(1, Ordering::Relaxed) + 1;
    match *fault {
        Some((true, number)) if passed == number => std::process::abort(),
        Some((false, number)) if passed >= number && point == Point::Write => {
            Err(io::ErrorKind::StorageFull.into())
        }
        _ => Ok(()),
    }
}

/// Passes a point of writing.
#[cfg(not(debug_assertions))]
#[allow(clippy::unnecessary_wraps)]
pub(crate) fn pass(_: Point) -> io::Result<()> {
    Ok(())
}
