//! A recipe with its data and the weights that it starts from, looked at before anything is run.

use std::path::Path;

use rayon::prelude::*;
use serde_json::Value;

use super::init_from::{Start, did_you_mean, weights_file};
use super::{EngineError, SplitReport, classes, problem_of_length};
use crate::component::{Dataset, Problem, Samples};
use crate::data::DataError;
use crate::experiment::SplitParts;
use crate::graph::Draft;
use crate::guard::guarded;
use crate::loader::most_corrupt;
use crate::recipe::{Diagnostics, Recipe, nearest_path};

/// What to look at besides the datasets.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// Every sample of them, for those that cannot be decoded.
    pub samples: bool,
    /// The weights that the recipe starts from.
    pub weights: bool,
}

/// What a recipe works with.
pub struct Inspection {
    /// The datasets.
    pub data: Vec<SplitReport>,
    /// What comes of the weights that it starts from, if it names some.
    pub weights: Option<String>,
}

/// Opens the datasets of a recipe and the weights it starts from.
///
/// # Errors
/// Everything that is wrong with them, and with a recipe that was only [`read`](crate::recipe::read).
pub fn inspect(recipe: &Recipe, look: Look) -> Result<Inspection, Diagnostics> {
    let Draft { parts, plan, model, mut problems } = Draft::of(recipe);
    let heads = plan.heads();
    let mut opened = Vec::new();
    for split in [&parts.train_data].into_iter().chain(&parts.val_data) {
        let Opened { samples, problem } = open(recipe, split);
        problems.extend(problem);
        opened.push((split, samples));
    }
    let samples_of = |at: usize| opened.get(at).and_then(|(_, samples)| samples.as_deref());
    problems.extend(classes::problems(&heads, samples_of(0), samples_of(1)));
    if let (Some(samples), Some(batch_size), Some(train)) =
        (samples_of(0), parts.train_data.batch_size, &parts.train)
    {
        problems.extend(problem_of_length(samples.len(), batch_size, train));
    }
    let max_corrupt = recipe.get("data.max_corrupt").and_then(Value::as_f64).unwrap_or_default();
    let mut data = Vec::new();
    for (split, samples) in &opened {
        let Some(samples) = samples.as_deref() else { continue };
        let mut report = SplitReport::new(split.name, samples, &heads);
        if look.samples {
            let corrupt = corrupt_samples(samples);
            problems.extend(problem_of_corrupt(&split.key("dataset"), &corrupt, samples.len(), max_corrupt));
            report.warnings.extend(corrupt.into_iter().map(|error| format!("corrupt: {error}")));
        }
        data.push(report);
    }
    let from = parts.init_from.as_ref().filter(|from| look.weights && from.source().is_ok());
    let start = from.and_then(|from| match &model {
        Some(model) => Some(Start::read(model, from)),
        None => weights_file(from).err().map(Err),
    });
    let weights = start.transpose().unwrap_or_else(|problem| {
        problems.push(problem);
        None
    });
    match problems.is_empty() && recipe.is_valid() {
        true => Ok(Inspection { data, weights: weights.map(|weights| weights.to_string()) }),
        false => Err(recipe.diagnose(problems)),
    }
}

/// An opened dataset, and what is wrong with it.
struct Opened {
    samples: Option<Box<dyn Samples>>,
    problem: Option<Problem>,
}

/// Opens the dataset of a split. Where a path is misspelt, what was meant is opened instead: it may have mistakes, too.
fn open(recipe: &Recipe, split: &SplitParts) -> Opened {
    let Some(dataset) = &split.dataset else { return Opened { samples: None, problem: None } };
    let key = split.key("dataset");
    match dataset.open() {
        Ok(samples) => Opened { samples: Some(samples), problem: None },
        Err(error) => {
            let block = recipe.get(&key).cloned().unwrap_or_default();
            let meant = missing(&error).and_then(|path| meant(block, path));
            let place = meant.as_ref().map_or(String::new(), |(place, _)| place.clone());
            let samples = meant
                .and_then(|(_, block)| serde_json::from_value::<Box<dyn Dataset>>(block).ok()?.open().ok());
            Opened { samples, problem: Some(problem_of_data(&error, &place).within(&key)) }
        }
    }
}

/// The file or folder that a dataset lacks.
fn missing(error: &DataError) -> Option<&Path> {
    let (DataError::Invalid { path, .. } | DataError::Io { path, .. } | DataError::Corrupt { path, .. }) =
        error
    else {
        return None;
    };
    (!path.exists()).then_some(path)
}

/// An error of a dataset, as a problem of the recipe.
pub fn problem_of_data(error: &DataError, place: &str) -> Problem {
    let problem = Problem::new(place, error.to_string());
    match missing(error).and_then(did_you_mean) {
        Some(help) => problem.help(help),
        None => problem,
    }
}

/// The block of a dataset with the names that were meant in the place of those of a missing path that are not there, and
/// the key in which the first of these stands.
fn meant(mut block: Value, missing: &Path) -> Option<(String, Value)> {
    let meant = nearest_path(missing)?;
    let renamed = missing.iter().zip(meant.iter()).filter(|(wrong, right)| wrong != right);
    let mut place = None;
    for (wrong, right) in renamed {
        let found = rename(&mut block, "", wrong.as_ref(), right.as_ref());
        place = place.or(found);
    }
    Some((place?, block))
}

/// Replaces a name in all paths of a block, and returns the key of the first.
fn rename(block: &mut Value, key: &str, wrong: &Path, right: &Path) -> Option<String> {
    let join = |part: &str| if key.is_empty() { part.to_owned() } else { format!("{key}.{part}") };
    match block {
        Value::String(text) if Path::new(&*text).iter().any(|part| part == wrong) => {
            let parts =
                Path::new(&*text).iter().map(|part| if part == wrong { right.as_os_str() } else { part });
            *text = parts.collect::<std::path::PathBuf>().to_string_lossy().into_owned();
            Some(key.to_owned())
        }
        Value::Object(map) => {
            let blocks = map.iter_mut().map(|(name, block)| (join(name), block));
            blocks.fold(None, |found, (key, block)| found.or(rename(block, &key, wrong, right)))
        }
        Value::Array(items) => {
            let blocks = items.iter_mut().enumerate().map(|(at, block)| (join(&at.to_string()), block));
            blocks.fold(None, |found, (key, block)| found.or(rename(block, &key, wrong, right)))
        }
        _ => None,
    }
}

/// The samples that cannot be decoded, and why.
fn corrupt_samples(samples: &dyn Samples) -> Vec<DataError> {
    let read = |index: usize| match guarded(|| samples.get(index)) {
        Ok(sample) => sample.err(),
        Err(message) => Some(DataError::Panicked { sample: format!("sample {index}"), message }),
    };
    (0..samples.len()).into_par_iter().filter_map(read).collect()
}

/// More corrupt samples than a run bears.
fn problem_of_corrupt(key: &str, corrupt: &[DataError], samples: usize, max_corrupt: f64) -> Option<Problem> {
    let (count, limit) = (corrupt.len(), most_corrupt(samples, max_corrupt));
    let message = format!(
        "{count} of {samples} samples are corrupt, `data.max_corrupt` allows {limit}; the first: {}",
        corrupt.first()?
    );
    (count > limit).then(|| {
        Problem::new(key, message)
            .help("repair or remove these files, or raise `data.max_corrupt`: corrupt samples are replaced by others")
    })
}

/// The error of a recipe's run with all that is wrong with it, if one of its mistakes was in the way.
pub fn with_all_mistakes(recipe: &Recipe, error: EngineError, look: Look) -> EngineError {
    let is_mistake = matches!(error, EngineError::Recipe(_));
    let mistakes = is_mistake.then(|| inspect(recipe, look).err()).flatten();
    mistakes.map_or(error, EngineError::from)
}
