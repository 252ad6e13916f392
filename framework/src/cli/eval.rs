//! `convmae eval`: metrics of trained weights.

use super::output::{CliError, print};
use super::trained_args::TrainedArgs;
use crate::engine::{self, EvalReport};

/// Evaluate weights on the validation set of a recipe, as training does.
///
/// `convmae eval runs/NAME` evaluates a run, `convmae eval RECIPE --weights FILE` any weights file.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: TrainedArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> Result<(), CliError> {
    let report = engine::eval(&args.model.options()?)?;
    print(&if args.json { json(&report) } else { text(&report) })
}

fn json(report: &EvalReport) -> String {
    let metrics: serde_json::Map<_, _> =
        report.metrics.iter().map(|(name, value)| (name.clone(), serde_json::json!(value))).collect();
    let report = serde_json::json!({
        "name": report.name, "weights": report.weights, "images": report.images, "metrics": metrics,
    });
    format!("{report:#}")
}

fn text(report: &EvalReport) -> String {
    let mut lines = vec![format!("{}: {} images, {}", report.name, report.images, report.weights.display())];
    let width = report.metrics.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    lines.extend(report.metrics.iter().map(|(name, value)| format!("{name:<width$}  {value:.4}")));
    lines.join("\n")
}
