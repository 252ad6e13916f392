//! The overrides of one run, resolved to its recipe.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::block::Variant;
use super::spec::Sweep;
use super::stage::Assignment;
use crate::engine::cost;
use crate::experiment::{InitSource, Train};
use crate::graph::{self, catalog};
use crate::recipe::{Catalog, Finding, LayerKind, Sources, lock};

/// A checked recipe of the sweep.
#[derive(Debug, Clone)]
pub(super) struct Resolved {
    pub sources: Sources,
    pub digest: String,
    /// The digest of its recipe without the run that it starts from.
    pub digest_without_source: String,
    /// Its values.
    pub recipe: Arc<Value>,
    pub parameters: usize,
    pub gmacs: f64,
    pub train: Train,
    pub batch_size: usize,
    /// `data.train.dataset`, as the recipe has it.
    pub dataset: Value,
    /// Whether it starts from the run that its stage starts from, and not from other weights or none.
    pub starts_from_upstream: bool,
    /// What tells how long a step takes: the model and its images.
    pub cost: String,
}

/// One override: `key=value`, and where the sweep's file says so.
#[derive(Debug, Clone)]
pub(super) struct Set {
    pub argument: String,
    pub place: Option<String>,
}

/// Loads the recipes of a sweep, each once, and remembers what is wrong with them.
pub(super) struct Resolver<'s> {
    sweep: &'s Sweep,
    catalog: Catalog,
    environment: Vec<(String, String)>,
    /// By stage and overrides.
    known: HashMap<(usize, Vec<String>), Option<Resolved>>,
    /// Each with the runs that have it: what they set.
    mistakes: Vec<(Finding, Vec<String>)>,
}

impl<'s> Resolver<'s> {
    pub fn new(sweep: &'s Sweep) -> Self {
        let environment = Sources::from_env("").environment;
        Self { sweep, catalog: catalog(), environment, known: HashMap::new(), mistakes: Vec::new() }
    }

    /// The overrides of a variant's run in a stage, the later ones win.
    pub fn sets(
        &self,
        stage: usize,
        variant: &Variant<'_>,
        upstream: Option<&Path>,
        last: &[(usize, String)],
    ) -> Vec<Set> {
        let fixed = &self.sweep.stages.0[stage];
        let from = upstream.map(|run| Set {
            argument: format!("init_from.run={}", text(&Value::from(run.to_string_lossy()))),
            place: Some(format!("stages.{}.init_from", fixed.name)),
        });
        let last = last.iter().filter(|(of, _)| *of == stage);
        (fixed.set.iter().map(set).chain(from))
            .chain(variant.assignments(stage).map(set))
            .chain(last.map(|(_, argument)| Set { argument: argument.clone(), place: None }))
            .collect()
    }

    /// The recipe of a run; `None` if there is something wrong with it.
    pub fn resolve(&mut self, stage: usize, sets: &[Set], upstream: Option<&Path>) -> Option<Resolved> {
        let key = (stage, sets.iter().map(|set| set.argument.clone()).collect::<Vec<_>>());
        if let Some(known) = self.known.get(&key) {
            return known.clone();
        }
        let sources = Sources {
            recipe: self.sweep.stages.0[stage].recipe.clone(),
            sets: key.1.clone(),
            environment: self.environment.clone(),
            ..Sources::default()
        };
        let resolved = check(sources, &self.catalog, upstream);
        if let Err(diagnostics) = &resolved {
            let run = self.describe(stage, sets);
            for finding in diagnostics.findings() {
                self.remember(stage, finding, sets, &run);
            }
        }
        let resolved = resolved.ok();
        self.known.insert(key, resolved.clone());
        resolved
    }

    /// Everything that was wrong, once each, with the runs concerned.
    pub fn findings(self) -> Vec<Finding> {
        let told = self.mistakes.into_iter().map(|(mut finding, runs)| {
            let others = match runs.len() {
                0 | 1 => String::new(),
                2 => ", and in another one".to_owned(),
                count => format!(", and in {} others", count - 1),
            };
            let run = format!("in the run {}{others}", runs.first().map(String::as_str).unwrap_or_default());
            finding.help = Some(finding.help.into_iter().chain([run]).collect::<Vec<_>>().join("\n"));
            finding
        });
        told.collect()
    }

    fn remember(&mut self, stage: usize, finding: &Finding, sets: &[Set], run: &str) {
        let place = match &finding.origin {
            Some(LayerKind::Set(argument)) => {
                sets.iter().rev().find(|set| set.argument == *argument).and_then(|set| set.place.clone())
            }
            // A recipe that cannot be read.
            None => Some(self.sweep.stages.0[stage].place.clone()),
            Some(_) => None,
        };
        let finding = match place {
            Some(place) => self.sweep.document.adopt(finding.clone(), &place),
            None => finding.clone(),
        };
        let same = |other: &Finding| {
            (other.to_string(), &other.origin, other.position())
                == (finding.to_string(), &finding.origin, finding.position())
        };
        match self.mistakes.iter_mut().find(|(other, _)| same(other)) {
            Some((_, runs)) => runs.push(run.to_owned()),
            None => self.mistakes.push((finding, vec![run.to_owned()])),
        }
    }

    /// A run in words: its recipe, and what it sets.
    fn describe(&self, stage: usize, sets: &[Set]) -> String {
        let recipe = self.sweep.stages.0[stage].recipe.display();
        let sets = sets.iter().map(|set| format!("`{}`", set.argument)).collect::<Vec<_>>().join(", ");
        if sets.is_empty() { format!("of {recipe}") } else { format!("of {recipe} with {sets}") }
    }
}

fn check(
    sources: Sources,
    catalog: &Catalog,
    upstream: Option<&Path>,
) -> Result<Resolved, crate::recipe::Diagnostics> {
    let (recipe, graph::Checked { experiment, summary, .. }) = graph::load(&sources, catalog)?;
    let from = experiment.init_from.as_ref().and_then(|from| from.source().ok());
    let block = |key: &str| recipe.get(key).cloned().unwrap_or_default();
    let mut without_source = recipe.value().clone();
    if let Some(from) = without_source.get_mut("init_from").and_then(Value::as_object_mut) {
        from.shift_remove("run");
    }
    Ok(Resolved {
        digest: recipe.digest(),
        digest_without_source: lock::digest(&without_source),
        recipe: Arc::new(recipe.value().clone()),
        parameters: summary.parameters,
        gmacs: summary.macs.computed as f64 / 1e9,
        batch_size: experiment.data.train.batch_size,
        train: experiment.train,
        dataset: block("data.train.dataset"),
        starts_from_upstream: matches!((from, upstream), (Some(InitSource::Run(run)), Some(upstream)) if run == upstream),
        cost: cost(&recipe),
        sources,
    })
}

fn set(assignment: &Assignment) -> Set {
    let argument = format!("{}={}", assignment.key, text(&assignment.value));
    Set { argument, place: Some(assignment.place.clone()) }
}

/// A value as an argument of `--set`: YAML in one line, a string without quotes where that means the same.
pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::String(text) if is_plain(text) => text.clone(),
        value => value.to_string(),
    }
}

/// Whether a string needs no quotes: it is read back as itself.
fn is_plain(text: &str) -> bool {
    let letters = |letter: char| letter.is_ascii_alphanumeric() || "_./ ".contains(letter) || letter == '-';
    text.starts_with(|letter: char| letter.is_ascii_alphanumeric() || letter == '/')
        && !text.ends_with(' ')
        && text.chars().all(letters)
        && crate::recipe::plain_scalar(text).is_ok_and(|value| value == text)
}
