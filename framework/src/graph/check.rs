//! Checking a whole recipe before a byte is allocated: types, wiring, shapes, and what the transforms yield.

use super::model::Model;
use super::plan::Plan;
use super::summary::Summary;
use crate::component::{ImageShape, Needs, Problem, SampleShape, TaskKind};
use crate::data::Size;
use crate::experiment::{Data, Evaluate, Experiment, ImageSize, Nodes, Split};
use crate::loader::output_shape;
use crate::nn::Scope;
use crate::recipe::{Diagnostics, Recipe};

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

/// Checks everything that can be known without data. All problems are reported at once, at their places in
/// the recipe.
pub fn check(recipe: &Recipe) -> Result<Checked, Diagnostics> {
    let mut experiment: Experiment = recipe.deserialize("")?;
    let ImageSize { height, width } = experiment.image_size;
    let image = ImageShape { channels: experiment.image_channels, height, width };
    let mut problems = problems_of_data(&experiment);
    let inference = experiment.evaluate.inference.as_deref();
    let misfit = inference.and_then(|inference| inference.check(image).err());
    problems.extend(misfit.map(|problem| problem.within("evaluate.inference")));
    let nodes = Nodes(std::mem::take(&mut experiment.model.0));
    let described = Plan::new(nodes).and_then(|plan| {
        let model = Model::build(&plan, image, &Scope::describe())?;
        let misfit = experiment.optimizer.check(&model.params()).err();
        problems.extend(misfit.map(|problem| problem.within("optimizer")));
        problems.extend(problems_of_evaluation(&model, &experiment.evaluate));
        problems.extend(problems_of_padding(&model, &experiment.data));
        Ok((Summary::new(&model), plan))
    });
    match described {
        Ok((summary, plan)) if problems.is_empty() => Ok(Checked { experiment, plan, image, summary }),
        Ok(_) => Err(recipe.diagnose(problems)),
        Err(found) => {
            problems.extend(found.into_iter().map(|problem| problem.within("model")));
            Err(recipe.diagnose(problems))
        }
    }
}

/// Evaluators and an inference that fit no head, and heads of which it is unclear which one predicts the
/// classes of pixels.
fn problems_of_evaluation(model: &Model, evaluate: &Evaluate) -> Vec<Problem> {
    let mut problems = Vec::new();
    if let [first, second, ..] = model.predicting(TaskKind::Segment).as_slice() {
        let message =
            format!("`{first}` and `{second}` both predict the classes of pixels: which of them counts?");
        problems.push(
            Problem::new(format!("model.{second}"), message)
                .help("set `auxiliary: true` on the one that only helps to train"),
        );
    }
    if let Some(task) = evaluate.inference.as_ref().map(|inference| inference.task())
        && model.predicting(task).is_empty()
    {
        let message = format!("no head of the model predicts {task}, which an inference puts together");
        problems.push(Problem::new("evaluate.inference", message).help("remove it, or add the head"));
    }
    for (position, evaluator) in evaluate.evaluators.iter().enumerate() {
        let key = format!("evaluate.evaluators.{position}");
        match evaluator.needs() {
            Needs::Predictions(task) if model.predicting(task).is_empty() => {
                let message = format!("no head of the model predicts {task}, which this evaluator measures");
                problems.push(Problem::new(key, message).help("remove the evaluator, or add the head"));
            }
            Needs::Features => {
                let missing = model.level(evaluator.features().level).err();
                problems.extend(missing.map(|message| Problem::new(key, message)));
            }
            Needs::Predictions(_) | Needs::Losses => {}
        }
    }
    problems
}

/// Padding that would be learned: nothing tells the pixels of removed patches from it.
fn problems_of_padding(model: &Model, data: &Data) -> Vec<Problem> {
    let splits = [("train", Some(&data.train)), ("val", data.val.as_ref())];
    let padded = splits.into_iter().filter(|(_, split)| split.is_some_and(|split| split.pad_to.is_some()));
    let Some(head) = model.heads_of(TaskKind::Reconstruct).next() else { return Vec::new() };
    let problem = |(split, _)| {
        Problem::new(
            format!("data.{split}.pad_to"),
            format!("the head `{head}` would reconstruct the padding, too"),
        )
        .help("remove it, and let the transforms yield images of `image_size`")
    };
    padded.map(problem).collect()
}

/// What is wrong with the transforms: steps that do not fit each other or themselves, or a size that is not
/// the recipe's `image_size`.
fn problems_of_data(experiment: &Experiment) -> Vec<Problem> {
    let mut problems = Vec::new();
    if experiment.data.val.is_none() && !experiment.evaluate.evaluators.is_empty() {
        let problem = Problem::new("evaluate.evaluators", "there is no validation set to evaluate on");
        problems.push(problem.help("add `val` to `data`, or remove the evaluators"));
    }
    if experiment.train.length.is_zero() {
        problems.push(
            Problem::new("train.length", "there is nothing to do")
                .help("write `40 epochs` or `1500 iterations`"),
        );
    }
    for (key, every) in [("evaluate", experiment.evaluate.every), ("checkpoint", experiment.checkpoint.every)]
    {
        if every.is_zero() {
            let problem = Problem::new(format!("{key}.every"), "there is no time between two times");
            problems.push(problem.help("write `1 iteration` for every step, `1 epoch` for every epoch"));
        }
    }
    problems.extend(experiment.init_from.as_ref().and_then(|from| from.source().err()));
    let evaluate = &experiment.evaluate;
    // An inference takes images of any size; what other heads predict, and losses, need the model's.
    let any_size = evaluate.inference.as_ref().is_some_and(|inference| {
        let needs = Needs::Predictions(inference.task());
        evaluate.evaluators.iter().all(|evaluator| evaluator.needs() == needs)
    });
    let splits = [
        ("data.train", Some(&experiment.data.train), false),
        ("data.val", experiment.data.val.as_ref(), any_size),
    ];
    for (key, split, any_size) in splits {
        let Some(split) = split else { continue };
        let image = (!any_size).then_some(experiment.image_size);
        problems.extend(problem_of_split(key, split, experiment.image_channels, image));
        for (position, transform) in split.batch_transforms.iter().enumerate() {
            let within = |problem: Problem| problem.within(&format!("{key}.batch_transforms.{position}"));
            problems.extend(transform.check().err().map(within));
        }
    }
    problems
}

/// `image` is the size that the batches have to have, if it matters.
fn problem_of_split(
    split_key: &str,
    split: &Split,
    channels: usize,
    image: Option<ImageSize>,
) -> Option<Problem> {
    let key = format!("{split_key}.transforms");
    let output = output_shape(&split.transforms, SampleShape { channels, ..SampleShape::default() });
    if let (Some(pad_to), Ok(output)) = (split.pad_to, &output) {
        let misfit = problem_of_pad_to(pad_to, output.size, image);
        if misfit.is_some() {
            return misfit.map(|problem| problem.within(&format!("{split_key}.pad_to")));
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
    image: Option<ImageSize>,
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
