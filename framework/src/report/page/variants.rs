//! Runs that differ in nothing but their seeds: one variant.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::run::Run;
use crate::experiment::{changes_results, is_seed};
use crate::recipe::{differences, short_key};

/// A label of more keys would be no name.
const MOST_KEYS: usize = 3;

/// What the names of recipes are called beside keys.
const RECIPE: &str = "recipe";

/// The runs of a page by variant, in the order of their first runs.
#[derive(Debug, Default)]
pub(super) struct Variants {
    pub(super) all: Vec<Variant>,
    /// The keys that tell the variants apart, those with the most values first; where recipes are too unlike
    /// for a few keys, their names and the keys that tell variants of one name apart.
    pub(super) keys: Vec<SweptKey>,
}

#[derive(Debug)]
pub(super) struct Variant {
    /// `mask ratio 0.75`, or the name of its only run.
    pub(super) label: String,
    /// Its runs, by number.
    pub(super) runs: Vec<usize>,
}

/// A key of the recipe that differs between variants.
#[derive(Debug)]
pub(super) struct SweptKey {
    /// `mask.mask_ratio` for `model.mask.mask_ratio`.
    pub(super) name: String,
    /// Its value in the recipe of each run, as it is written.
    pub(super) values: Vec<String>,
    /// The same as numbers, where all of them are.
    pub(super) numbers: Option<Vec<f64>>,
}

impl Variants {
    /// Tells runs apart by the keys of their recipes that change results.
    pub(super) fn of(runs: &[Run]) -> Self {
        let recipes: Vec<&Value> = runs.iter().map(|run| &run.lineage).collect();
        let mut differences = differences(&recipes);
        differences.retain(|difference| changes_results(&difference.key) && !is_seed(&difference.key));
        let values: Vec<Vec<String>> = differences
            .iter()
            .map(|difference| difference.values.iter().map(|value| text(*value)).collect())
            .collect();
        let mut known: HashMap<Vec<&str>, usize> = HashMap::new();
        let mut all: Vec<Vec<usize>> = Vec::new();
        for run in 0..runs.len() {
            let next = known.len();
            let at = *known.entry(values.iter().map(|values| values[run].as_str()).collect()).or_insert(next);
            match all.get_mut(at) {
                Some(variant) => variant.push(run),
                None => all.push(vec![run]),
            }
        }
        let names: Vec<&str> = differences.iter().map(|difference| difference.key.as_str()).collect();
        let mut told = telling(&names, &values, &all, None);
        let is_block = |at: &usize| differences[*at].values.iter().flatten().any(|value| value.is_object());
        let are_unlike = told.len() > MOST_KEYS || told.iter().any(is_block);
        let recipe = recipe_names(runs, &all).filter(|_| are_unlike);
        if let Some(recipe) = &recipe {
            told = telling(&names, &values, &all, Some(&recipe.values));
        }
        let keys = told.into_iter().map(|at| SweptKey {
            name: short_key(names[at], &names),
            values: differences[at].values.iter().map(|value| shown(*value)).collect(),
            numbers: differences[at].values.iter().map(|value| value.and_then(Value::as_f64)).collect(),
        });
        let keys: Vec<_> = recipe.into_iter().chain(keys).collect();
        let is_grouped = all.iter().any(|runs| runs.len() > 1);
        let firsts: Vec<usize> = all.iter().map(|runs| runs[0]).collect();
        let variant = |numbers: Vec<usize>| {
            let label = label(&keys, numbers[0], &firsts).filter(|_| is_grouped);
            Variant { label: label.unwrap_or_else(|| common_label(runs, &numbers)), runs: numbers }
        };
        Self { all: all.into_iter().map(variant).collect(), keys }
    }

    /// Whether a variant has several runs, so that there is a spread.
    pub(super) fn are_repeated(&self) -> bool {
        self.all.iter().any(|variant| variant.runs.len() > 1)
    }

    /// The variant of a run.
    pub(super) fn of_run(&self, run: usize) -> usize {
        self.all.iter().position(|variant| variant.runs.contains(&run)).unwrap_or(0)
    }
}

/// The names of the recipes, where all runs of a variant have one and there are several.
fn recipe_names(runs: &[Run], variants: &[Vec<usize>]) -> Option<SweptKey> {
    let is_one = |of: &Vec<usize>| of.iter().all(|run| runs[*run].name() == runs[of[0]].name());
    let values: Vec<String> = runs.iter().map(|run| run.name().to_owned()).collect();
    let are_several = values.iter().any(|name| *name != values[0]);
    let is_told = are_several && values.iter().all(|name| !name.is_empty()) && variants.iter().all(is_one);
    is_told.then(|| SweptKey { name: RECIPE.to_owned(), values, numbers: None })
}

/// As few keys as tell variants apart, beside what is `known` of each run: those that tell most first, a `type`
/// before the keys that come with it.
fn telling(
    names: &[&str],
    values: &[Vec<String>],
    variants: &[Vec<usize>],
    known: Option<&[String]>,
) -> Vec<usize> {
    let count = |key: usize| {
        let mut distinct: Vec<&str> = variants.iter().map(|runs| values[key][runs[0]].as_str()).collect();
        distinct.sort_unstable();
        distinct.dedup();
        distinct.len()
    };
    let mut order: Vec<usize> = (0..names.len()).collect();
    let is_type = |key: usize| names[key].rsplit('.').next() == Some("type");
    order.sort_by_key(|&key| (Reverse(count(key)), !is_type(key)));
    let with = |chosen: &[usize]| {
        let told = variants.iter().map(|runs| {
            let known = known.map(|known| known[runs[0]].as_str());
            known
                .into_iter()
                .chain(chosen.iter().map(|&key| values[key][runs[0]].as_str()))
                .collect::<Vec<_>>()
        });
        told.collect::<HashSet<_>>().len()
    };
    let (mut told, mut chosen) = (with(&[]), Vec::new());
    for key in order {
        let more = with(&[chosen.as_slice(), &[key]].concat());
        if more > told {
            (told, chosen) = (more, [chosen.as_slice(), &[key]].concat());
        }
    }
    chosen
}

/// `mask_ratio 0.75, lr 0.001`, or `convmae_finetune, lr 0.001` where recipes have names; `None` without keys,
/// or of too many. Those of `variants` stand for all.
fn label(keys: &[SweptKey], run: usize, variants: &[usize]) -> Option<String> {
    let (recipe, keys) = match keys {
        [recipe, keys @ ..] if recipe.name == RECIPE => (Some(&recipe.values), keys),
        keys => (None, keys),
    };
    let alike = |other: &&usize| recipe.is_none_or(|names| names[**other] == names[run]);
    let is_alone = variants.iter().filter(alike).count() == 1;
    let parts = keys.iter().filter(|_| !is_alone).map(|key| format!("{} {}", key.name, key.values[run]));
    let parts: Vec<String> = recipe.map(|names| names[run].clone()).into_iter().chain(parts).collect();
    (1..=MOST_KEYS).contains(&parts.len()).then(|| parts.join(", "))
}

/// What stands for runs that no key tells from others.
fn common_label(runs: &[Run], numbers: &[usize]) -> String {
    let first = &runs[numbers[0]];
    match numbers {
        [_] => first.label.clone(),
        _ if first.name().is_empty() => format!("{} and {} more", first.label, numbers.len() - 1),
        _ => first.name().to_owned(),
    }
}

/// A value in few words: a block by its `type` or its name, and by the run or the file that it starts from.
fn shown(value: Option<&Value>) -> String {
    let said = value.and_then(Value::as_object).and_then(|block| {
        let stated = ["type", "name", "run", "weights"].into_iter().filter_map(|key| block.get(key));
        stated.filter(|value| !value.is_null()).map(|value| shown(Some(value))).next()
    });
    said.unwrap_or_else(|| text(value))
}

/// A value as it is said: `unset`, a text without quotes.
fn text(value: Option<&Value>) -> String {
    match value {
        None => "unset".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn runs(recipes: &[Value]) -> Vec<Run> {
        let run = |(at, lineage): (usize, &Value)| Run {
            label: format!("run {at}"),
            lineage: lineage.clone(),
            recipe: lineage.clone(),
            ..Run::default()
        };
        recipes.iter().enumerate().map(run).collect()
    }

    fn told(recipes: &[Value]) -> Vec<(String, Vec<usize>)> {
        Variants::of(&runs(recipes)).all.into_iter().map(|variant| (variant.label, variant.runs)).collect()
    }

    #[test]
    fn seeds_words_and_speed_make_no_variant() {
        let of = |seed: u64, ratio: f64, workers: u64| json!({"name": format!("m{seed}"), "seed": seed, "model": {"mask": {"ratio": ratio}}, "data": {"workers": workers}});
        let recipes = [of(0, 0.5, 1), of(1, 0.75, 1), of(1, 0.5, 2), of(0, 0.75, 1)];
        assert_eq!(
            told(&recipes),
            [("ratio 0.5".to_owned(), vec![0, 2]), ("ratio 0.75".to_owned(), vec![1, 3])]
        );
        // Without repetition every run keeps its name.
        assert_eq!(told(&recipes[..2]), [("run 0".to_owned(), vec![0]), ("run 1".to_owned(), vec![1])]);
        // Of one variant there is nothing to tell.
        let seeds = [of(0, 0.5, 1), of(1, 0.5, 1)];
        assert_eq!(told(&seeds), [("m0".to_owned(), vec![0, 1])]);
    }

    #[test]
    fn a_label_has_as_few_keys_as_tell_variants_apart() {
        let of =
            |seed: u64, mask: Value, lr: f64| json!({"seed": seed, "mask": mask, "optimizer": {"lr": lr}});
        let (random, block) = (json!({"type": "Random"}), json!({"type": "Block", "side": 2}));
        let recipes = [
            of(0, random.clone(), 1e-3),
            of(1, random.clone(), 1e-3),
            of(0, block.clone(), 1e-3),
            of(0, random, 2e-3),
            of(0, block, 3e-3),
        ];
        let labels: Vec<String> = told(&recipes).into_iter().map(|(label, _)| label).collect();
        let expected = [
            "lr 0.001, mask Random",
            "lr 0.001, mask Block",
            "lr 0.002, mask Random",
            "lr 0.003, mask Block",
        ];
        assert_eq!(labels, expected);
        let keys = Variants::of(&runs(&recipes)).keys;
        assert_eq!(keys[0].numbers, Some(vec![1e-3, 1e-3, 1e-3, 2e-3, 3e-3]));
        assert_eq!((keys[1].name.as_str(), &keys[1].numbers), ("mask", &None));
    }

    #[test]
    fn runs_that_start_from_other_seeds_are_of_one_variant() {
        let of = |seed: u64, ratio: f64| json!({"seed": seed, "init_from": {"run": {"seed": seed, "ratio": ratio}}});
        let recipes = [of(0, 0.5), of(1, 0.5), of(0, 0.6)];
        assert_eq!(told(&recipes), [("ratio 0.5".to_owned(), vec![0, 1]), ("ratio 0.6".to_owned(), vec![2])]);
    }
    #[test]
    fn recipes_that_are_unlike_go_by_their_names() {
        let pretrained = json!({"name": "pretrain", "seed": 3, "mask": {"type": "Random"}});
        let of = |name: &str, seed: u64, head: Value, from: Value| json!({"name": name, "seed": seed, "head": head, "init_from": from});
        let (linear, boxes) = (json!({"type": "Linear"}), json!({"type": "Box", "sizes": [1]}));
        let runs = [
            pretrained.clone(),
            of("probe", 0, linear.clone(), json!({"run": pretrained})),
            of("probe", 1, linear.clone(), json!({"run": pretrained})),
            of("probe", 0, linear, Value::Null),
            of("detect", 0, boxes, Value::Null),
        ];
        let labels: Vec<String> = told(&runs).into_iter().map(|(label, _)| label).collect();
        assert_eq!(labels, ["pretrain", "probe, init_from pretrain", "probe, init_from null", "detect"]);
        // Of one name the key says it.
        let labels: Vec<String> = told(&runs[1..4]).into_iter().map(|(label, _)| label).collect();
        assert_eq!(labels, ["init_from pretrain", "init_from null"]);
        // Names that go with seeds say nothing of variants.
        let runs = [
            of("a", 0, json!({"type": "Box"}), Value::Null),
            of("b", 1, json!({"type": "Box"}), Value::Null),
            json!({"name": "c", "seed": 0, "init_from": null}),
        ];
        let labels: Vec<String> = told(&runs).into_iter().map(|(label, _)| label).collect();
        assert_eq!(labels, ["head Box", "head unset"]);
    }
}
