//! The groups of rows that Parquet files are read by.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::shard::{Images, Shard};

/// Rows of a file that are read together.
pub(super) struct Group {
    /// The file, by number.
    pub shard: usize,
    /// Its first row, counted within the file.
    pub first_in_shard: usize,
    /// Rows.
    pub rows: usize,
}

/// The images of a group, or why there are none, once they are read.
type Slot = Arc<OnceLock<Result<Arc<Images>, String>>>;

/// The groups of all files, and the images of the last ones that were asked for.
pub(super) struct Groups {
    groups: Vec<Group>,
    /// The first row of each, counted over all files, and the number of all rows.
    starts: Vec<usize>,
    /// Images that are shuffled at a time, at least.
    pub shuffle_buffer: usize,
    /// Groups that are kept: those that are shuffled together, and as many again.
    kept: usize,
    /// The last one that was asked for is the last.
    recent: Mutex<VecDeque<(usize, Slot)>>,
}

impl Groups {
    pub fn new(shards: &[Shard], shuffle_buffer: usize) -> Self {
        let (mut groups, mut starts, mut rows) = (Vec::new(), vec![0], 0);
        for (shard, Shard { groups: of_shard, .. }) in shards.iter().enumerate() {
            let mut first_in_shard = 0;
            for &of_group in of_shard.iter().filter(|&&rows| rows > 0) {
                groups.push(Group { shard, first_in_shard, rows: of_group });
                first_in_shard += of_group;
                rows += of_group;
                starts.push(rows);
            }
        }
        let rows_of_group = (rows / groups.len().max(1)).max(1);
        let kept = 2 * (shuffle_buffer.div_ceil(rows_of_group) + 1);
        Self { groups, starts, shuffle_buffer, kept, recent: Mutex::default() }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// Rows of all of them.
    pub fn rows(&self) -> usize {
        self.starts[self.groups.len()]
    }

    /// The rows of a group, counted over all files.
    pub fn range(&self, group: usize) -> Range<usize> {
        self.starts[group]..self.starts[group + 1]
    }

    /// The group of a row, with its number, and the row's number within it.
    pub fn place(&self, row: usize) -> (usize, &Group, usize) {
        let group = self.starts.partition_point(|&start| start <= row) - 1;
        (group, &self.groups[group], row - self.starts[group])
    }

    /// The images of a group, which are read if they are not among the last ones. Threads that ask for the same wait for one
    /// of them.
    ///
    /// # Errors
    /// Why they cannot be read.
    pub fn images(
        &self,
        group: usize,
        read: impl FnOnce() -> Result<Images, String>,
    ) -> Result<Arc<Images>, String> {
        let slot = self.slot(group);
        slot.get_or_init(|| read().map(Arc::new)).clone()
    }

    fn slot(&self, group: usize) -> Slot {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let known = recent.iter().position(|(of, _)| *of == group).and_then(|at| recent.remove(at));
        let (_, slot) = known.unwrap_or_default();
        recent.push_back((group, Arc::clone(&slot)));
        if recent.len() > self.kept {
            recent.pop_front();
        }
        slot
    }
}
