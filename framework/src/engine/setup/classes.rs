//! The classes of data and of heads: that they agree, and how weights keep their names.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::component::{Problem, Samples};
use crate::graph::Model;

/// What is classified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Classified {
    /// Images or objects.
    Images,
    /// Pixels.
    Pixels,
}

impl Classified {
    const ALL: [Self; 2] = [Self::Images, Self::Pixels];

    /// The names of the classes in data.
    pub fn of_data(self, samples: &dyn Samples) -> Option<&[String]> {
        match self {
            Self::Images => samples.classes(),
            Self::Pixels => samples.pixel_classes(),
        }
    }

    /// The heads that tell such classes apart, with how many.
    fn of_heads(self, model: &Model) -> Vec<(&str, usize)> {
        match self {
            Self::Images => model.num_classes(),
            Self::Pixels => model.pixel_classes(),
        }
    }

    /// The key of the names, as JSON, in the metadata of a run's final weights.
    fn key(self) -> &'static str {
        match self {
            Self::Images => "convmae.classes",
            Self::Pixels => "convmae.pixel_classes",
        }
    }

    /// The names of the classes in the metadata of weights, if they bring them.
    pub fn of_weights(self, metadata: &Map<String, Value>) -> Option<Vec<String>> {
        serde_json::from_str(metadata.get(self.key())?.as_str()?).ok()
    }
}

/// What weights that were trained on data say of its classes.
pub fn metadata(samples: &dyn Samples) -> BTreeMap<String, String> {
    let entry = |classified: Classified| {
        let names = classified.of_data(samples)?;
        Some((classified.key().to_owned(), serde_json::json!(names).to_string()))
    };
    Classified::ALL.into_iter().filter_map(entry).collect()
}

/// Classes that training and validation, or data and heads, do not agree about.
pub fn problems(model: &Model, train: &dyn Samples, val: Option<&dyn Samples>) -> Vec<Problem> {
    let of_splits = |classified: Classified| {
        // Pretraining looks at no class.
        if classified.of_heads(model).is_empty() {
            return None;
        }
        let val = classified.of_data(val?)?;
        problem_of_splits(classified.of_data(train)?, val)
    };
    let mut problems: Vec<_> = Classified::ALL.into_iter().filter_map(of_splits).collect();
    problems.extend(problems_of_heads(model, "training", train));
    problems
}

fn problem_of_splits(train: &[String], val: &[String]) -> Option<Problem> {
    if train == val {
        return None;
    }
    let only = |a: &[String], b: &[String]| {
        let names: Vec<_> = a.iter().filter(|name| !b.contains(name)).map(String::as_str).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    };
    let message = format!(
        "its {} classes are not the {} of the training set; only in training: {}; only in validation: {}",
        val.len(),
        train.len(),
        only(train, val),
        only(val, train),
    );
    let help = "both must have the same classes in the same order, or labels would mean different things";
    Some(Problem::new("data.val.dataset", message).help(help))
}

/// Heads that tell apart another number of classes than the data of `split` has.
pub fn problems_of_heads(model: &Model, split: &str, samples: &dyn Samples) -> Vec<Problem> {
    let mut problems = Vec::new();
    for classified in Classified::ALL {
        let Some(in_data) = classified.of_data(samples).map(<[String]>::len) else { continue };
        for (node, classes) in classified.of_heads(model) {
            if classes != in_data {
                let message =
                    format!("the head tells {classes} classes apart, the {split} set has {in_data}");
                problems.push(
                    Problem::new(format!("model.{node}.num_classes"), message)
                        .help(format!("set it to {in_data}")),
                );
            }
        }
    }
    problems
}
