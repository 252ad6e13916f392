//! When a training ends before its length.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::component::Evaluator;

/// Ends the training when a metric of the validation set gets no better any more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EarlyStop {
    /// After how many evaluations in a row that are no better than the best one before them.
    #[schemars(range(min = 1), extend("examples" = [10]))]
    pub patience: u32,
    /// The metric, as the log calls it: `top1`, `box_ap`; that of the first evaluator which decides which checkpoint is best, if
    /// left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-called-elsewhere" = ["monitor", "eval_metric", "metric_for_best_model"]))]
    pub metric: Option<String>,
    /// Whether more of the metric is better, or less. Only for a metric of which no evaluator of the recipe tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Better>,
    /// By how much a metric has to be better, to count.
    #[serde(default)]
    #[schemars(range(min = 0.0), extend("x-called-elsewhere" = ["early_stopping_threshold", "threshold"]))]
    pub min_delta: f64,
}

/// Which of two values of a metric is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// The larger one.
    Max,
    /// The smaller one.
    Min,
}

impl EarlyStop {
    /// The metric, and which of two values of it is better, where that is known. `None` if nothing is evaluated.
    pub fn metric_of<'a>(
        &self,
        mut evaluators: impl Iterator<Item = &'a dyn Evaluator>,
    ) -> Option<(String, Option<Better>)> {
        let better = |more: bool| if more { Better::Max } else { Better::Min };
        let (first, more) = evaluators.next()?.best();
        let Some(metric) = &self.metric else {
            return Some((first.to_owned(), self.mode.or(Some(better(more)))));
        };
        let all = std::iter::once((first, more)).chain(evaluators.map(Evaluator::best));
        let known = all.into_iter().find(|(name, _)| name == metric).map(|(_, more)| better(more));
        Some((metric.clone(), self.mode.or(known)))
    }
}
