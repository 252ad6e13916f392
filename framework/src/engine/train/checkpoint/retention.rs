//! Which checkpoints are kept.

use std::collections::HashSet;

/// A rule for which checkpoints are kept. The one that `best.json` names is kept in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// The newest ones.
    pub newest: usize,
    /// The best ones by the run's metric.
    pub best: usize,
    /// One of so many steps.
    pub every: Option<u64>,
}

impl Default for Retention {
    /// The newest one and the one before.
    fn default() -> Self {
        Self { newest: 2, best: 1, every: None }
    }
}

impl Retention {
    /// The steps whose checkpoints are kept, of those that there are, newest first. `ranking`: evaluated steps, from the best on;
    /// of these the best that there are count.
    pub fn kept(&self, newest_first: &[u64], ranking: &[u64]) -> HashSet<u64> {
        let newest = newest_first.iter().take(self.newest).copied();
        let there = ranking.iter().filter(|step| newest_first.contains(step));
        let best = there.take(self.best).copied();
        let every = self.every.map(|every| every.max(1));
        let regular =
            newest_first.iter().filter(|&&step| every.is_some_and(|every| step.is_multiple_of(every)));
        newest.chain(best).chain(regular.copied()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(retention: Retention, steps: &[u64], ranking: &[u64]) -> Vec<u64> {
        let mut kept: Vec<_> = retention.kept(steps, ranking).into_iter().collect();
        kept.sort_unstable();
        kept
    }

    #[test]
    fn newest_best_and_regular_ones_are_kept() {
        let steps = [60, 50, 40, 30, 20, 10];
        let ranking = [20, 35, 50, 10];
        let of = |newest, best, every| kept(Retention { newest, best, every }, &steps, &ranking);
        assert_eq!(of(2, 0, None), [50, 60]);
        assert_eq!(of(1, 1, None), [20, 60]);
        assert_eq!(of(1, 3, None), [10, 20, 50, 60], "the second best has no checkpoint");
        assert_eq!(of(1, 0, Some(20)), [20, 40, 60]);
        assert_eq!(of(0, 9, Some(30)), [10, 20, 30, 50, 60]);
        assert_eq!(of(0, 0, Some(0)), [10, 20, 30, 40, 50, 60], "every step");
        assert!(of(0, 0, None).is_empty());
    }
}
