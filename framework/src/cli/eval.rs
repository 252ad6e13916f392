//! `convmae eval`: metrics of trained weights, or of results files.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::output::{CliError, print};
use super::together_args::TogetherArgs;
use super::trained_args::TrainedArgs;
use crate::distributed::Communicator;
use crate::engine::{self, EvalReport, together};
use crate::metrics::coco::{FilesReport, IouType, evaluate_files};
use crate::terminal::indented_json;

/// Evaluate weights on the validation set of a recipe, as training does, or detections in a file of COCO's results format.
///
/// `convmae eval runs/NAME` evaluates a run, `convmae eval RECIPE --weights FILE` any weights file; with `--results FILE.json` the objects
/// that are found are written for other tools. `convmae eval --results FILE.json --annotations INSTANCES.json` evaluates such a file,
/// whatever tool has written it: the figures of pycocotools, in percent.
///
/// Several processes (`mpirun`, `srun`) share the images of a model; the figures are those of one.
#[derive(Debug, clap::Args)]
#[command(mut_arg("recipe", |recipe| recipe.required(false).required_unless_present("annotations")))]
pub struct Args {
    #[command(flatten)]
    model: TrainedArgs,
    #[command(flatten)]
    pub together: TogetherArgs,
    /// Write the objects that are found to this file, in COCO's results format (JSON), which pycocotools reads; with `--annotations`, the
    /// file that is evaluated.
    #[arg(long, value_name = "FILE")]
    results: Option<PathBuf>,
    /// Compare `--results` with these annotations (instances in COCO's format) instead of evaluating a model.
    #[arg(long, value_name = "FILE", requires = "results", conflicts_with_all = ["recipe", "weights", "sets", "seed", "device"])]
    annotations: Option<PathBuf>,
    /// What of the results is compared; may be repeated. Boxes, and masks if all results have them, if left out.
    #[arg(long = "type", value_name = "TYPE", requires = "annotations")]
    types: Vec<IouType>,
    /// Print the average precision of every class of the results, too.
    #[arg(long, requires = "annotations")]
    per_class: bool,
    /// Print, too, how much average precision at an IoU of 0.5 each kind of error costs (TIDE, Bolya et al. 2020).
    #[arg(long, requires = "annotations")]
    tide: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the subcommand.
pub fn run(args: &Args, communicator: &dyn Communicator) -> Result<(), CliError> {
    let is_first = communicator.is_first();
    let text = match (&args.results, &args.annotations) {
        (Some(_), Some(_)) if !is_first => return Ok(()),
        (Some(results), Some(annotations)) => {
            let report = evaluate_files(results, annotations, &args.types, args.tide)?;
            let FilesReport { images, detections, summaries } = report;
            let metrics: Vec<_> =
                summaries.iter().flat_map(|summary| summary.metrics(args.per_class)).collect();
            match args.json {
                true => json(
                    json!({ "results": results, "annotations": annotations, "images": images, "detections": detections }),
                    &metrics,
                ),
                false => text(
                    &format!("{}: {images} images, {detections} detections", results.display()),
                    &metrics,
                ),
            }
        }
        (results, _) => {
            let report = engine::eval(
                &together(communicator, args.model.options())?,
                results.as_deref(),
                communicator,
            )?;
            let EvalReport { name, weights, images, corrupt_samples, metrics } = report;
            let about = json!({
                "name": name, "weights": weights, "images": images, "corrupt_samples": corrupt_samples,
            });
            let replaced = match corrupt_samples {
                0 => String::new(),
                count => format!(", {count} corrupt and replaced by others"),
            };
            match args.json {
                true => json(about, &metrics),
                false => text(&format!("{name}: {images} images{replaced}, {}", weights.display()), &metrics),
            }
        }
    };
    if is_first { print(&text) } else { Ok(()) }
}

fn json(mut report: Value, metrics: &[(String, f64)]) -> String {
    report["metrics"] = metrics.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    indented_json(&report)
}

fn text(heading: &str, metrics: &[(String, f64)]) -> String {
    let width = metrics.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let lines = metrics.iter().map(|(name, value)| format!("\n{name:<width$}  {value:.4}"));
    heading.to_owned() + &lines.collect::<String>()
}
