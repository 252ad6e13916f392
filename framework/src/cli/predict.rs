//! `convmae predict`: predictions of a trained model for images.

use std::path::{Path, PathBuf};

use super::output::{CliError, print};
use super::trained_args::TrainedArgs;
use crate::component::Picture;
use crate::engine::{self, EngineError, Prediction, Wanted};
use crate::report::label_map;
use crate::terminal::indented_json;

/// Predict for images: the most probable classes, the share of each class of pixels, the objects with their
/// scores and boxes, and pictures of what the heads have to show.
///
/// `convmae predict runs/NAME cat.jpg` uses a run, `convmae predict RECIPE cat.jpg --weights FILE` any
/// weights file. Images are prepared by the transforms of the recipe's validation set.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: TrainedArgs,
    /// The images (JPEG, PNG, WebP).
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<PathBuf>,
    /// Classes to name for each image.
    #[arg(long, value_name = "K", default_value_t = 5)]
    topk: usize,
    /// The least score of the objects that are shown.
    #[arg(long, value_name = "SCORE", default_value_t = 0.5)]
    min_score: f32,
    /// Folder for the pictures, one file for each image and caption, and for label maps (PNGs whose values
    /// are the classes, with their names and colours in JSON files); none are written if left out.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print JSON: objects have the corners of their box in pixels (`box`: left, top, right, bottom) and, if
    /// the model finds masks, the pixels as compressed run lengths of COCO (`segmentation`).
    #[arg(long)]
    json: bool,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> Result<(), CliError> {
    let write = |number: usize, prediction: &Prediction| match &args.out {
        Some(folder) => write(folder, number, prediction),
        None => Ok(()),
    };
    let wanted = Wanted { topk: args.topk, min_score: args.min_score, pictures: args.out.is_some() };
    let predictions = engine::predict(&args.model.options()?, &args.images, wanted, write)?;
    let text = match args.json {
        true => indented_json(&predictions),
        false => predictions.iter().map(text).collect::<Vec<_>>().join("\n"),
    };
    print(&text)
}

fn text(prediction: &Prediction) -> String {
    let mut lines = vec![prediction.image.display().to_string()];
    lines.extend(prediction.classes.iter().map(|class| {
        let name = class.name.clone().unwrap_or_else(|| format!("class {}", class.index));
        format!("  {:6.2} %  {name}", 100.0 * class.probability)
    }));
    lines.extend(
        prediction
            .pixel_classes
            .iter()
            .map(|class| format!("  {:6.2} % of its pixels  {}", 100.0 * class.share, class.label())),
    );
    lines.extend(prediction.objects.iter().flatten().map(|object| {
        let [x0, y0, x1, y1] = object.bbox;
        format!("  {} at {x0:.0} {y0:.0} {x1:.0} {y1:.0}", object.label())
    }));
    lines.join("\n")
}

/// Writes `<number>-<image>-<caption>.png` for every picture, `<number>-<image>-labels.png` with the classes
/// of the pixels, and their names and colours in `<number>-<image>-labels.json`.
fn write(folder: &Path, number: usize, prediction: &Prediction) -> Result<(), CliError> {
    let failed = |path: &Path, error: &dyn std::fmt::Display| {
        CliError::Engine(EngineError::Usage(format!("cannot write {}: {error}", path.display())))
    };
    std::fs::create_dir_all(folder).map_err(|error| failed(folder, &error))?;
    let stem = prediction.image.file_stem().unwrap_or_default().to_string_lossy();
    for Picture { caption, image } in &prediction.pictures {
        let caption: String = caption.chars().map(|c| if c.is_alphanumeric() { c } else { '_' }).collect();
        let path = folder.join(format!("{number:03}-{stem}-{caption}.png"));
        image.save(&path).map_err(|error| failed(&path, &error))?;
    }
    if let Some(labels) = &prediction.labels {
        let path = folder.join(format!("{number:03}-{stem}-labels.png"));
        label_map::save(labels, &path).map_err(|error| failed(&path, &error))?;
        let path = path.with_extension("json");
        label_map::save_legend(&prediction.pixel_classes, &path).map_err(|error| failed(&path, &error))?;
    }
    Ok(())
}
