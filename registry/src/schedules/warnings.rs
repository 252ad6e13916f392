//! What is doubtful about lengths and learning rates of a schedule.

use convmae_framework::component::{Problem, Schedule, Span, Training};

use super::Length;

/// A warm-up that is longer than the training.
pub(super) fn of_warmup(schedule: &dyn Schedule, warmup: Length, training: &Training) -> Option<Problem> {
    let span = beyond(warmup, training)?;
    let end = match training.last_step() {
        Some(last) => {
            let lr = schedule.lr(training.base_lr, last);
            format!("ends at {lr:.1e} of {:e}", training.base_lr)
        }
        None => format!("does not get to {:e}", training.base_lr),
    };
    let message = format!(
        "the warm-up ({span}) is longer than the training ({}): the learning rate {end}",
        training.length_like(span)
    );
    Some(Problem::new("warmup", message))
}

/// A milestone that the training does not come to.
pub(super) fn of_milestones(milestones: &[Length], training: &Training) -> Vec<Problem> {
    let problem = |(at, &milestone): (usize, &Length)| {
        let span = beyond(milestone, training)?;
        let message = format!(
            "the milestone ({span}) is behind the end of the training ({})",
            training.length_like(span)
        );
        Some(Problem::new(format!("milestones.{at}"), message))
    };
    milestones.iter().enumerate().filter_map(problem).collect()
}

/// A first cycle that does not end.
pub(super) fn of_cycle(cycle: Length, training: &Training) -> Option<Problem> {
    let span = beyond(cycle, training)?;
    let message = format!(
        "the first cycle ({span}) is longer than the training ({}): it never restarts",
        training.length_like(span)
    );
    Some(Problem::new("cycle", message))
}

/// A last learning rate above the first.
pub(super) fn of_min_lr(min_lr: f64, training: &Training) -> Option<Problem> {
    let message = format!(
        "{min_lr:e} is more than the learning rate, {:e}: it rises instead of decaying",
        training.base_lr
    );
    (min_lr > training.base_lr).then(|| Problem::new("min_lr", message))
}

/// A length that is longer than the training; a fraction of it never is.
fn beyond(length: Length, training: &Training) -> Option<Span> {
    match length {
        Length::Span(span) => training.is_shorter_than(span).then_some(span),
        Length::Fraction(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn warnings(schedule: Value, length: Span, steps_per_epoch: Option<u64>) -> Vec<(String, String)> {
        let schedule: Box<dyn Schedule> = serde_json::from_value(schedule).unwrap();
        let training = Training { base_lr: 1e-3, length, steps_per_epoch };
        schedule.warnings(&training).into_iter().map(|problem| (problem.key, problem.message)).collect()
    }

    #[test]
    fn a_warmup_that_does_not_end_says_where_the_learning_rate_ends() {
        let long = json!({ "type": "WarmupCosine", "warmup": "40 epochs" });
        let message = |end: &str, length: &str| {
            let message = format!(
                "the warm-up (40 epochs) is longer than the training ({length}): the learning rate {end}"
            );
            vec![("warmup".to_owned(), message)]
        };
        // 5 / 6 of one of 40 epochs.
        let known = warnings(long.clone(), Span::Iterations(6), Some(6));
        assert_eq!(known, message("ends at 2.1e-5 of 1e-3", "1 epoch"));
        let unknown = warnings(long, Span::Epochs(1.0), None);
        assert_eq!(unknown, message("does not get to 1e-3", "1 epoch"));
        for schedule in ["Poly", "MultiStep", "Constant", "Linear"] {
            let warmup = json!({ "type": schedule, "warmup": "1500 iterations" });
            assert_eq!(warnings(warmup.clone(), Span::Iterations(1499), None)[0].0, "warmup", "{schedule}");
            assert!(warnings(warmup, Span::Iterations(1500), None).is_empty(), "{schedule}");
        }
        assert!(
            warnings(json!({ "type": "MultiStep", "warmup": 1.0 }), Span::Iterations(1), None).is_empty()
        );
    }

    #[test]
    fn a_decay_that_rises_and_a_milestone_that_never_comes_are_told() {
        for schedule in ["WarmupCosine", "Poly", "Linear"] {
            let key = |min_lr: f64| {
                let found = warnings(json!({ "type": schedule, "min_lr": min_lr }), Span::Epochs(1.0), None);
                found.into_iter().map(|(key, _)| key).collect::<Vec<_>>()
            };
            assert_eq!(key(2e-3), ["min_lr"], "{schedule}");
            assert!(key(1e-3).is_empty(), "{schedule}");
        }
        let milestones = json!({ "type": "MultiStep", "milestones": ["8 epochs", 0.9, "11 epochs"] });
        assert_eq!(warnings(milestones, Span::Epochs(10.0), None)[0].0, "milestones.2");
        let cycle = json!({ "type": "CosineRestarts", "cycle": "11 epochs", "min_lr": 2e-3 });
        let keys: Vec<_> =
            warnings(cycle, Span::Epochs(10.0), None).into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["cycle", "min_lr"]);
    }
}
