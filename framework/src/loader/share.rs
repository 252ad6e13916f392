//! Which batches of an epoch a process takes.

/// The part of every group of batches that belongs to one of several processes: consecutive ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    rank: usize,
    /// Batches of the group for each process.
    each: usize,
    /// Batches of a group.
    group: usize,
}

impl Share {
    /// All of one process alone.
    pub const ALL: Self = Self { rank: 0, each: 1, group: 1 };

    /// Of groups of `group` batches, which `size` processes share evenly.
    ///
    /// # Panics
    /// If the groups cannot be shared evenly.
    pub fn of_groups(rank: usize, size: usize, group: usize) -> Self {
        assert!(
            rank < size && group > 0 && group.is_multiple_of(size),
            "{group} batches for {size} processes"
        );
        Self { rank, each: group / size, group }
    }

    /// Of so many batches altogether: as many for each, the last processes may have fewer.
    pub fn of_all(rank: usize, size: usize, batches: usize) -> Self {
        Self::of_groups(rank, size, batches.div_ceil(size).max(1) * size)
    }

    /// The number of a batch, from 0, among all, by its number among those that belong to it.
    pub fn number(self, own: usize) -> usize {
        own / self.each * self.group + self.rank * self.each + own % self.each
    }

    /// Whether a batch, from 0, belongs to it.
    pub fn has(self, number: usize) -> bool {
        number % self.group / self.each == self.rank
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(share: Share, batches: usize) -> Vec<usize> {
        let numbers: Vec<_> = (0..batches).filter(|&number| share.has(number)).collect();
        assert_eq!(numbers, (0..numbers.len()).map(|own| share.number(own)).collect::<Vec<_>>());
        numbers
    }

    #[test]
    fn each_takes_consecutive_batches_of_every_group() {
        assert_eq!(of(Share::ALL, 3), [0, 1, 2]);
        assert_eq!(of(Share::of_groups(0, 2, 4), 10), [0, 1, 4, 5, 8, 9]);
        assert_eq!(of(Share::of_groups(1, 2, 4), 10), [2, 3, 6, 7]);
    }

    #[test]
    fn all_batches_belong_to_one_process_each() {
        for (size, batches) in [(1, 5), (2, 5), (4, 7), (4, 2), (3, 0)] {
            let shares = (0..size).flat_map(|rank| of(Share::of_all(rank, size, batches), batches));
            assert_eq!(shares.collect::<Vec<_>>(), (0..batches).collect::<Vec<_>>());
        }
    }
}
