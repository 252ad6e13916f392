//! `convmae predict`: predictions of a trained model for images.

mod table;

use std::path::{Path, PathBuf};

use super::output::{CliError, print};
use super::table_file::cannot_write;
use super::trained_args::TrainedArgs;
use crate::component::Picture;
use crate::engine::{self, Prediction, Wanted};
use crate::report::label_map;
use crate::terminal::indented_json;
use table::Table;

/// Predict for images: the most probable classes, the share of each class of pixels, the objects with their
/// scores and boxes, and pictures of what the heads have to show.
///
/// `convmae predict runs/NAME cat.jpg` uses a run, `convmae predict RECIPE cat.jpg --weights FILE` any
/// weights file. Images are prepared by the transforms of the recipe's validation set; damaged ones are skipped and
/// named.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: TrainedArgs,
    /// The images: files, patterns (`'photos/**/*.jpg'`), folders with all images below them.
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<PathBuf>,
    /// Classes to name for each image; 5, and 1 in a CSV or Parquet file, if left out.
    #[arg(long, value_name = "K")]
    topk: Option<usize>,
    /// The least score of the objects that are shown.
    #[arg(long, value_name = "SCORE", default_value_t = 0.5)]
    min_score: f32,
    /// A folder for the pictures, one file for each image and caption, and for label maps (PNGs whose values
    /// are the classes, with their names and colours in JSON files). Or a table, written while images are read, in
    /// place of what is printed: `F.csv` or `F.parquet`, a row for each image and class (or object), `F.jsonl`, a
    /// line of JSON for each image, `F.json`, a list of these. May be given twice, for both.
    #[arg(long, value_name = "DIR|FILE")]
    out: Vec<PathBuf>,
    /// A block of the backbone, by the names of its parameters as `blocks3.10`, whose attention is drawn over the images in the folder of
    /// `--out`: how much each patch is attended to by the cls token, or by all patches on average; the mean of the heads, and each.
    #[arg(long, value_name = "BLOCK")]
    attention: Option<String>,
    /// Print JSON: objects have the corners of their box in pixels (`box`: left, top, right, bottom) and, if
    /// the model finds masks, the pixels as compressed run lengths of COCO (`segmentation`).
    #[arg(long)]
    json: bool,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> Result<(), CliError> {
    let (tables, folders): (Vec<&PathBuf>, Vec<_>) = args.out.iter().partition(|path| Table::is_named(path));
    let is_flat = |path: &&PathBuf| path.extension().is_some_and(|kind| kind == "csv" || kind == "parquet");
    let topk = args.topk.unwrap_or(if tables.iter().any(is_flat) { 1 } else { 5 });
    if args.attention.is_some() && folders.is_empty() {
        return Err(CliError::Usage {
            message: "`--attention` draws pictures, and there is no folder for them".to_owned(),
            help: Some("name one by `--out DIR`".to_owned()),
        });
    }
    let wanted = Wanted {
        topk,
        min_score: args.min_score,
        pictures: !folders.is_empty(),
        attention: args.attention.as_deref(),
    };
    let options = args.model.options()?;
    let mut tables = tables.into_iter().map(|path| Table::create(path)).collect::<Result<Vec<_>, _>>()?;
    let mut listed = Vec::new();
    engine::predict(&options, &args.images, wanted, |number, mut prediction| {
        folders.iter().try_for_each(|folder| write(folder, number, &prediction))?;
        tables.iter_mut().try_for_each(|table| table.add(&prediction))?;
        if args.json {
            (prediction.labels, prediction.pictures) = (None, Vec::new());
            listed.push(prediction);
        } else if tables.is_empty() {
            print(&text(&prediction))?;
        }
        Ok::<_, CliError>(())
    })?;
    tables.into_iter().try_for_each(Table::finish)?;
    if args.json { print(&indented_json(&listed)) } else { Ok(()) }
}

fn text(prediction: &Prediction) -> String {
    let mut lines = vec![prediction.image.display().to_string()];
    let classes = prediction.classes.iter();
    lines.extend(classes.map(|class| format!("  {:6.2} %  {}", 100.0 * class.probability, class.label())));
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

/// Writes `<number>-<image>-<caption>.png` for every picture, and `-unborrowed.png` beside what borrows of the truth, `<number>-<image>-labels.png` with the classes
/// of the pixels, and their names and colours in `<number>-<image>-labels.json`.
fn write(folder: &Path, number: usize, prediction: &Prediction) -> Result<(), CliError> {
    std::fs::create_dir_all(folder).map_err(|error| cannot_write(folder, &error))?;
    let stem = prediction.image.file_stem().unwrap_or_default().to_string_lossy();
    for Picture { caption, image, unborrowed, .. } in &prediction.pictures {
        let caption: String = caption.chars().map(|c| if c.is_alphanumeric() { c } else { '_' }).collect();
        let images = [(caption.clone(), Some(image)), (format!("{caption}-unborrowed"), unborrowed.as_ref())];
        for (caption, image) in images.into_iter().filter_map(|(caption, image)| Some((caption, image?))) {
            let path = folder.join(format!("{number:03}-{stem}-{caption}.png"));
            image.save(&path).map_err(|error| cannot_write(&path, &error))?;
        }
    }
    if let Some(labels) = &prediction.labels {
        let path = folder.join(format!("{number:03}-{stem}-labels.png"));
        label_map::save(labels, &path).map_err(|error| cannot_write(&path, &error))?;
        let path = path.with_extension("json");
        label_map::save_legend(&prediction.pixel_classes, &path)
            .map_err(|error| cannot_write(&path, &error))?;
    }
    Ok(())
}
