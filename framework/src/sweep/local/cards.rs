//! The cards of this machine among the runs that share it.

use std::collections::HashMap;

use serde_json::Value;

use crate::nn;
use crate::sweep::plan::PlannedRun;

/// What tells a program of CUDA which cards it may see, by number or name.
pub(super) const VISIBLE: &str = "CUDA_VISIBLE_DEVICES";

/// The cards that runs are given, each with the runs that it has.
#[derive(Debug, Default)]
pub(super) struct Cards {
    /// As [`VISIBLE`] names them.
    names: Vec<String>,
    /// By run.
    taken: HashMap<usize, usize>,
}

impl Cards {
    /// Those that this process sees: none with a program for the CPU. Slurm, too, tells a job its own by
    /// [`VISIBLE`].
    pub fn visible() -> Self {
        let visible = std::env::var(VISIBLE).ok();
        let names = names(visible.as_deref(), nn::device::cards());
        Self { names, taken: HashMap::new() }
    }

    /// The card that has the fewest runs, for one whose recipe leaves the choice.
    pub fn take(&mut self, at: usize, run: &PlannedRun) -> Option<&str> {
        if !matches!(run.recipe.get("device").and_then(Value::as_str), None | Some("auto")) {
            return None;
        }
        let runs = |card: &usize| self.taken.values().filter(|taken| *taken == card).count();
        let card = (0..self.names.len()).min_by_key(runs)?;
        self.taken.insert(at, card);
        Some(&self.names[card])
    }

    /// Takes the card of a run back.
    pub fn release(&mut self, at: usize) {
        self.taken.remove(&at);
    }
}

/// The first `count` names of a list, which has as many unless the driver ignores some; numbers without a list.
fn names(visible: Option<&str>, count: usize) -> Vec<String> {
    match visible {
        Some(list) => list.split(',').map(|name| name.trim().to_owned()).take(count).collect(),
        None => (0..count).map(|card| card.to_string()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::names;

    #[test]
    fn cards_are_called_as_the_list_that_this_process_was_given_calls_them() {
        assert_eq!(names(None, 2), ["0", "1"]);
        assert_eq!(names(Some("3, GPU-8932f937"), 2), ["3", "GPU-8932f937"]);
        // CUDA stops at the first name that is no card.
        assert_eq!(names(Some("1,-1,2"), 1), ["1"]);
        assert!(names(Some(""), 0).is_empty());
    }
}
