//! Sweeps at work in one directory: equal ones share it, others are refused.

use std::fs::{self, File, OpenOptions, TryLockError};

use super::SweepError;
use super::plan::Plan;
use super::spec::Sweep;
use crate::report::ReportError;

/// The lock of a sweep's directory. Never removed: a process that removes it could remove that of the next
/// one.
const LOCK: &str = ".lock";

/// A sweep that is at work, as long as this lives.
#[derive(Debug)]
pub struct AtWork {
    /// The system releases it with the process, however that ends.
    _lock: File,
}

impl Plan {
    /// Writes the manifest, and begins to be at work.
    ///
    /// # Errors
    /// [`SweepError::OtherAtWork`] while a sweep is at work here that has other settings for one of the runs.
    pub fn begin(&self, sweep: &Sweep) -> Result<AtWork, SweepError> {
        fs::create_dir_all(&self.root).map_err(ReportError::io("create", &self.root))?;
        let path = self.root.join(LOCK);
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let lock = open.map_err(ReportError::io("open", &path))?;
        let is_shared = matches!(lock.try_lock(), Err(TryLockError::WouldBlock));
        if is_shared {
            // The other one may be writing its manifest.
            lock.lock_shared().map_err(ReportError::io("lock", &path))?;
            if let Some(run) = self.contradicts_manifest() {
                return Err(SweepError::OtherAtWork { root: self.root.clone(), run: run.name.clone() });
            }
        }
        self.write_manifest(sweep)?;
        if !is_shared {
            // Where files cannot be locked it is alone, as far as it can know.
            let _ = lock.unlock().and_then(|()| lock.lock_shared());
        }
        Ok(AtWork { _lock: lock })
    }
}
