//! Checking a whole recipe before a byte is allocated: types, wiring, shapes, and what the transforms yield.

use super::heads::Heads;
use super::model::Model;
use super::plan::Plan;
use super::summary::Summary;
use crate::component::{ImageShape, Needs, Problem, SampleShape, Span, TaskKind};
use crate::data::Size;
use crate::experiment::{EarlyStop, Evaluate, Experiment, Parts, SplitParts};
use crate::loader::output_shape;
use crate::nn::Scope;
use crate::recipe::{Catalog, Diagnostics, Recipe, Sources, list, read};

/// A recipe that can be run.
pub struct Checked {
    /// The recipe, typed. Its `model` has moved to `plan`.
    pub experiment: Experiment,
    /// The model's nodes, connected and in order.
    pub plan: Plan,
    /// The images of the model.
    pub image: ImageShape,
    /// The table of the model.
    pub summary: Summary,
}

/// Loads a recipe and checks everything that can be known without data. All mistakes are reported at once, at their
/// places in the recipe.
pub fn load(sources: &Sources, catalog: &Catalog) -> Result<(Recipe, Checked), Diagnostics> {
    let recipe = read(sources, catalog)?;
    let checked = check(&recipe)?;
    Ok((recipe, checked))
}

/// Checks everything that can be known of a recipe without data.
pub fn check(recipe: &Recipe) -> Result<Checked, Diagnostics> {
    let Draft { plan, model, problems, .. } = Draft::of(recipe);
    let Some(model) = model.filter(|_| problems.is_empty() && recipe.is_valid()) else {
        return Err(recipe.diagnose(problems));
    };
    let mut experiment: Experiment = recipe.deserialize("")?;
    experiment.model.0.clear();
    Ok(Checked { experiment, plan, image: model.image, summary: Summary::new(&model) })
}

/// What can be said of a recipe as far as it has no mistakes, and what is wrong with it besides those of its schema.
pub struct Draft {
    /// Its sections.
    pub parts: Parts,
    /// The nodes, as far as they are connected.
    pub plan: Plan,
    /// The model, described, if all of it is right.
    pub model: Option<Model>,
    /// What is wrong.
    pub problems: Vec<Problem>,
}

impl Draft {
    /// Of a recipe that may have mistakes: what depends on these is not looked at.
    pub fn of(recipe: &Recipe) -> Self {
        let (mut parts, mut problems) = Parts::of(recipe);
        problems.extend(problems_of_data(&parts));
        problems.extend(problems_of_training(&parts));
        let of_model = |problem: Problem| problem.within("model");
        let (plan, found) = Plan::draft(std::mem::take(&mut parts.nodes), &parts.flawed);
        problems.extend(found.into_iter().map(of_model));
        let described = parts.image.map(|image| Model::draft(&plan, image, &Scope::describe()));
        let (model, found) = described.unzip();
        let found = found.unwrap_or_default();
        let model = model.filter(|_| plan.is_whole && found.is_empty());
        problems.extend(found.into_iter().map(of_model));
        if let (Some(model), Some(optimizer)) = (&model, &parts.optimizer) {
            let misfit = optimizer.groups(&model.params()).err();
            problems.extend(misfit.map(|problem| problem.within("optimizer")));
        }
        if let (Some(model), Some(evaluate)) = (&model, &parts.evaluate) {
            problems.extend(problems_of_features(model, evaluate));
        }
        let heads = plan.heads();
        // What a head with mistakes predicts is not known.
        if parts.flawed.is_empty() {
            problems
                .extend(parts.evaluate.iter().flat_map(|evaluate| problems_of_evaluation(&heads, evaluate)));
        }
        problems.extend(problems_of_padding(&heads, &parts));
        Self { parts, plan, model, problems }
    }
}

/// Evaluators and an inference that fit no head, and heads of which it is unclear which one predicts the
/// classes of pixels.
fn problems_of_evaluation(heads: &Heads<'_>, evaluate: &Evaluate) -> Vec<Problem> {
    let mut problems = Vec::new();
    if let [first, second, ..] = heads.predicting(TaskKind::Segment).as_slice() {
        let message =
            format!("`{first}` and `{second}` both predict the classes of pixels: which of them counts?");
        problems.push(
            Problem::new(format!("model.{second}"), message)
                .help("set `auxiliary: true` on the one that only helps to train"),
        );
    }
    if let Some(task) = evaluate.inference.as_ref().map(|inference| inference.task())
        && heads.predicting(task).is_empty()
    {
        let message = format!("no head of the model predicts {task}, which an inference puts together");
        problems.push(Problem::new("evaluate.inference", message).help("remove it, or add the head"));
    }
    for (position, evaluator) in evaluate.evaluators.iter().enumerate() {
        let Needs::Predictions(task) = evaluator.needs() else { continue };
        if heads.predicting(task).is_empty() {
            let message = format!("no head of the model predicts {task}, which this evaluator measures");
            problems.push(
                Problem::new(format!("evaluate.evaluators.{position}"), message)
                    .help("remove the evaluator, or add the head"),
            );
        }
    }
    problems
}

/// Evaluators of features that the model does not have.
fn problems_of_features(model: &Model, evaluate: &Evaluate) -> Vec<Problem> {
    let evaluators = evaluate.evaluators.iter().enumerate();
    let of_features = evaluators.filter(|(_, evaluator)| evaluator.needs() == Needs::Features);
    let missing = of_features.filter_map(|(position, evaluator)| {
        let message = model.level(evaluator.features().level).err()?;
        Some(Problem::new(format!("evaluate.evaluators.{position}"), message))
    });
    missing.collect()
}

/// Padding that would be learned: nothing tells the pixels of removed patches from it.
fn problems_of_padding(heads: &Heads<'_>, parts: &Parts) -> Vec<Problem> {
    let Some(head) = heads.names(TaskKind::Reconstruct).into_iter().next() else { return Vec::new() };
    let splits = [&parts.train_data].into_iter().chain(&parts.val_data);
    let problem = |split: &SplitParts| {
        Problem::new(split.key("pad_to"), format!("the head `{head}` would reconstruct the padding, too"))
            .help("remove it, and let the transforms yield images of `image_size`")
    };
    splits.filter(|split| split.pad_to.is_some()).map(problem).collect()
}

/// Lengths that are none, no validation set to evaluate on, and initial weights from nowhere.
fn problems_of_training(parts: &Parts) -> Vec<Problem> {
    let Parts { val_data, init_from, train, evaluate, checkpoint, .. } = parts;
    let mut problems = Vec::new();
    if val_data.is_none() && evaluate.as_ref().is_some_and(|evaluate| !evaluate.evaluators.is_empty()) {
        let problem = Problem::new("evaluate.evaluators", "there is no validation set to evaluate on");
        problems.push(problem.help("add `val` to `data`, or remove the evaluators"));
    }
    if train.as_ref().is_some_and(|train| train.length.is_zero()) {
        problems.push(
            Problem::new("train.length", "there is nothing to do")
                .help("write `40 epochs` or `1500 iterations`"),
        );
    }
    if let (Some(stop), Some(evaluate)) = (train.as_ref().and_then(|train| train.stop.as_ref()), evaluate) {
        problems.extend(problem_of_early_stop(stop, evaluate));
    }
    let every = [
        ("evaluate.every", evaluate.as_ref().map(|evaluate| evaluate.every)),
        ("checkpoint.every", checkpoint.map(|checkpoint| checkpoint.every)),
        ("checkpoint.keep_every", checkpoint.and_then(|checkpoint| checkpoint.keep_every)),
    ];
    for (key, every) in every {
        if every.is_some_and(Span::is_zero) {
            let problem = Problem::new(key, "there is no time between two times");
            problems.push(problem.help("write `1 iteration` for every step, `1 epoch` for every epoch"));
        }
    }
    problems.extend(init_from.as_ref().and_then(|from| from.source().err()));
    problems
}

/// Waiting for what is never measured, or of which it is unclear what would be better.
fn problem_of_early_stop(stop: &EarlyStop, evaluate: &Evaluate) -> Option<Problem> {
    let evaluators = || evaluate.evaluators.iter().map(AsRef::as_ref);
    match stop.metric_of(evaluators()) {
        None => Some(
            Problem::new("train.stop", "nothing is evaluated that could get better")
                .help("add an evaluator to `evaluate.evaluators`, or remove it"),
        ),
        Some((metric, None)) => {
            let message = format!("whether more of `{metric}` is better is not known");
            let known = list(evaluators().map(|evaluator| evaluator.best().0));
            let help = format!("add `mode: max` or `mode: min` to `train.stop`; it is known of {known}");
            Some(Problem::new("train.stop.metric", message).help(help))
        }
        Some((_, Some(_))) => None,
    }
}

/// What is wrong with the transforms: steps that do not fit each other or themselves, or a size that is not
/// the recipe's `image_size`.
fn problems_of_data(parts: &Parts) -> Vec<Problem> {
    let inference = parts.evaluate.as_ref().and_then(|evaluate| evaluate.inference.as_ref());
    let misfit = parts.image.and_then(|image| inference?.check(image).err());
    let mut problems: Vec<_> =
        misfit.map(|problem| problem.within("evaluate.inference")).into_iter().collect();
    // An inference takes images of any size; what other heads predict, and losses, need the model's.
    let any_size = parts.evaluate.as_ref().is_none_or(|evaluate| {
        inference.is_some_and(|inference| {
            let needs = Needs::Predictions(inference.task());
            evaluate.evaluators.iter().all(|evaluator| evaluator.needs() == needs)
        })
    });
    let splits = [(Some(&parts.train_data), false), (parts.val_data.as_ref(), any_size)];
    for (split, any_size) in splits {
        let Some(split) = split else { continue };
        problems.extend(parts.image.and_then(|image| problem_of_split(split, image, any_size)));
        for (position, transform) in split.batch_transforms.iter().enumerate() {
            let within =
                |problem: Problem| problem.within(&split.key(&format!("batch_transforms.{position}")));
            problems.extend(transform.check().err().map(within));
        }
    }
    problems
}

/// `any_size`: whether batches may have another size than the model's `image`.
fn problem_of_split(split: &SplitParts, image: ImageShape, any_size: bool) -> Option<Problem> {
    let key = split.key("transforms");
    let shape = SampleShape { channels: image.channels, ..SampleShape::default() };
    let image = (!any_size).then_some(image);
    let output = output_shape(split.transforms.as_deref()?, shape);
    if let (Some(pad_to), Ok(output)) = (split.pad_to, &output) {
        let misfit = problem_of_pad_to(pad_to, output.size, image);
        if misfit.is_some() {
            return misfit.map(|problem| problem.within(&split.key("pad_to")));
        }
    }
    match output {
        Err((position, problem)) => Some(problem.within(&format!("{key}.{position}"))),
        Ok(SampleShape { size: Some((height, width)), .. })
            if let Some(image) = image
                && split.pad_to.is_none()
                && (height, width) != (image.height, image.width) =>
        {
            let message = format!(
                "these transforms yield images of {height} x {width}, `image_size` is {} x {}",
                image.height, image.width
            );
            Some(Problem::new(&key, message).help("write the size once: `size: ${image_size}`"))
        }
        Ok(SampleShape { normalized: false, .. }) => Some(
            Problem::new(&key, "the model takes normalised images, and nothing normalises them")
                .help("end the transforms with `{ type: Normalize }`"),
        ),
        Ok(_) => None,
    }
}

/// `images` is what the transforms yield, if that is known.
fn problem_of_pad_to(
    pad_to: Size,
    images: Option<(usize, usize)>,
    image: Option<ImageShape>,
) -> Option<Problem> {
    let (height, width) = pad_to.height_width();
    if let Some(image) = image
        && (height, width) != (image.height, image.width)
    {
        let message = format!("{height} x {width}, but `image_size` is {} x {}", image.height, image.width);
        return Some(Problem::new("", message).help("write the size once: `pad_to: ${image_size}`"));
    }
    let (rows, columns) = images.filter(|&(rows, columns)| rows > height || columns > width)?;
    let message = format!("{height} x {width}, but the transforms yield images of {rows} x {columns}");
    Some(Problem::new("", message).help("a larger size, or a crop or a `Resize` in the transforms"))
}
