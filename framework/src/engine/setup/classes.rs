//! The classes of data and of heads: that they agree, and how weights keep their names.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::component::{Problem, Samples, TaskKind};
use crate::graph::Heads;

/// Tasks whose classes have names, each with the key of these, as JSON, in the metadata of a run's final
/// weights.
const NAMED: [(TaskKind, &str); 3] = [
    (TaskKind::Classify, "convmae.classes"),
    (TaskKind::Segment, "convmae.pixel_classes"),
    (TaskKind::Detect, "convmae.object_classes"),
];

/// The names of the classes of a task in the metadata of weights, if they bring them.
pub fn of_weights(task: TaskKind, metadata: &Map<String, Value>) -> Option<Vec<String>> {
    let (_, key) = NAMED.into_iter().find(|(named, _)| *named == task)?;
    serde_json::from_str(metadata.get(key)?.as_str()?).ok()
}

/// What weights that were trained on data say of its classes.
pub fn metadata(samples: &dyn Samples) -> BTreeMap<String, String> {
    let entry = |(task, key): (TaskKind, &str)| {
        let names = samples.classes(task)?;
        Some((key.to_owned(), serde_json::json!(names).to_string()))
    };
    NAMED.into_iter().filter_map(entry).collect()
}

/// Classes that training and validation, or data and heads, do not agree about, as far as the data are there.
pub fn problems(heads: &Heads<'_>, train: Option<&dyn Samples>, val: Option<&dyn Samples>) -> Vec<Problem> {
    let of_splits = |(task, _)| {
        // Pretraining looks at no class.
        if heads.classes(task).is_empty() {
            return None;
        }
        problem_of_splits(train?.classes(task)?, val?.classes(task)?)
    };
    let mut problems: Vec<_> = NAMED.into_iter().filter_map(of_splits).collect();
    let split = train.map(|train| ("training", train)).or(val.map(|val| ("validation", val)));
    problems.extend(split.into_iter().flat_map(|(split, samples)| problems_of_heads(heads, split, samples)));
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
pub fn problems_of_heads(heads: &Heads<'_>, split: &str, samples: &dyn Samples) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (task, _) in NAMED {
        let Some(in_data) = samples.classes(task).map(<[String]>::len) else { continue };
        for (node, classes) in heads.classes(task) {
            if classes != in_data {
                let listed = shortened(&listing(samples, task));
                let message = format!(
                    "the head tells {classes} classes apart, the {split} set has {in_data}: {listed}"
                );
                let help = match in_data {
                    _ if task == TaskKind::Segment => {
                        format!(
                            "set it to {in_data}; for data of other classes there is `SegmentationFolder`"
                        )
                    }
                    1 => "a single class is often a `root` that is one folder too high".to_owned(),
                    _ => format!("set it to {in_data}, or remove from the data what is no class"),
                };
                problems.push(Problem::new(format!("model.{node}.num_classes"), message).help(help));
            }
        }
    }
    problems
}

/// The classes of a task by name, each with its samples where these are known without reading them.
pub fn listing(samples: &dyn Samples, task: TaskKind) -> Vec<String> {
    let names = samples.classes(task).unwrap_or_default();
    let mut counts = vec![0; names.len()];
    let mut known = 0;
    for class in (0..samples.len()).map_while(|index| samples.class(index)) {
        known += 1;
        counts.get_mut(class).into_iter().for_each(|count| *count += 1);
    }
    let is_counted = task == TaskKind::Classify && known == samples.len();
    let entry = |(name, count): (&String, &usize)| match count {
        1 if is_counted => format!("{name} (1 image)"),
        count if is_counted => format!("{name} ({count} images)"),
        _ => name.clone(),
    };
    names.iter().zip(&counts).map(entry).collect()
}

/// The first dozen of some entries, for a message.
pub fn shortened(entries: &[String]) -> String {
    const DOZEN: usize = 12;
    let first = entries[..entries.len().min(DOZEN)].join(", ");
    match entries.len().saturating_sub(DOZEN) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}
