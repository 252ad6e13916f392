//! Combinations: a block to the list of its variants.

use serde_json::Value;

use super::block::{Alternative, Block, Choice, Placed};
use super::name::VARIANT;
use super::stage::Assignment;

/// One combination of the sweep.
#[derive(Debug, Clone, Default)]
pub(super) struct Variant<'s> {
    pub choices: Vec<&'s Choice>,
    required: Vec<&'s Placed>,
    forbidden: Vec<&'s Placed>,
}

/// All combinations that the conditions allow, in the order of the file; the last part varies fastest.
pub(super) fn variants(block: &Block) -> Vec<Variant<'_>> {
    combinations(block).into_iter().filter(Variant::is_allowed).collect()
}

fn combinations(block: &Block) -> Vec<Variant<'_>> {
    let mut all = vec![Variant { forbidden: block.exclude.iter().collect(), ..Variant::default() }];
    for part in &block.parts {
        let within: Vec<Variant<'_>> = part.0.iter().flat_map(of_alternative).collect();
        all = all.iter().flat_map(|outer| within.iter().map(|inner| outer.with(inner))).collect();
    }
    all
}

fn of_alternative(alternative: &Alternative) -> Vec<Variant<'_>> {
    let outer = Variant {
        choices: alternative.choices.iter().collect(),
        required: alternative.when.iter().collect(),
        forbidden: Vec::new(),
    };
    match &alternative.nested {
        Some(block) => combinations(block).iter().map(|inner| outer.with(inner)).collect(),
        None => vec![outer],
    }
}

impl<'s> Variant<'s> {
    fn with(&self, inner: &Self) -> Self {
        let join = |a: &[&'s Placed], b: &[&'s Placed]| [a, b].concat();
        Self {
            choices: [&self.choices[..], &inner.choices[..]].concat(),
            required: join(&self.required, &inner.required),
            forbidden: join(&self.forbidden, &inner.forbidden),
        }
    }

    fn is_allowed(&self) -> bool {
        let settings = self.choices.iter().flat_map(|choice| choice.settings());
        let is_met = |placed: &&Placed| placed.condition.is_met(&settings);
        self.required.iter().all(is_met) && !self.forbidden.iter().any(is_met)
    }

    /// What it sets in a stage, in the order of the file.
    pub fn assignments(&self, stage: usize) -> impl Iterator<Item = &'s Assignment> {
        let all = self.choices.iter().flat_map(|choice| &choice.assignments);
        all.filter(move |assignment| assignment.stage == stage)
    }

    /// The axes that concern any of these stages, with their values. Names of nested variants are joined: `regular/large`.
    pub fn axes(&self, stages: &[usize]) -> Vec<(String, Value)> {
        let concerns = |choice: &Choice| {
            choice.assignments.is_empty()
                || choice.assignments.iter().any(|assignment| stages.contains(&assignment.stage))
        };
        let mut axes: Vec<(String, Value)> = Vec::new();
        for choice in self.choices.iter().filter(|choice| concerns(choice)) {
            let outer = axes.iter_mut().find(|(axis, _)| choice.axis == VARIANT && axis == VARIANT);
            match (outer, choice.value.as_str()) {
                (Some((_, name)), Some(inner)) => {
                    *name = format!("{}/{inner}", name.as_str().unwrap_or_default()).into();
                }
                _ => axes.push((choice.axis.clone(), choice.value.clone())),
            }
        }
        axes
    }
}
