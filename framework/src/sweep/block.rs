//! The `sweep:` block: what varies, and all combinations of it.

use serde_json::Value;

use super::name::VARIANT;
use super::stage::Assignment;
use crate::condition::Condition;
use crate::recipe::Problem;

/// Parts that are combined each with each; the last one varies fastest.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Block {
    pub parts: Vec<Part>,
    /// Combinations that are left out.
    pub exclude: Vec<Placed>,
}

/// What is tried one after the other.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Part(pub Vec<Alternative>);

/// One thing to try.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Alternative {
    pub choices: Vec<Choice>,
    /// Where alone it is tried.
    pub when: Option<Placed>,
    /// What varies within.
    pub nested: Option<Block>,
}

/// A value on an axis, and what it sets.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Choice {
    pub axis: String,
    pub value: Value,
    pub assignments: Vec<Assignment>,
}

/// A condition, and where the file has it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Placed {
    pub condition: Condition,
    pub place: String,
}

impl Block {
    /// How many combinations there are at most.
    pub fn count(&self) -> u64 {
        self.parts.iter().fold(1, |product: u64, part| product.saturating_mul(part.count()))
    }

    /// All choices, of nested blocks too.
    pub fn choices(&self) -> Vec<&Choice> {
        let alternatives = self.parts.iter().flat_map(|part| &part.0);
        alternatives
            .flat_map(|alternative| {
                let nested = alternative.nested.as_ref().map(Self::choices).unwrap_or_default();
                alternative.choices.iter().chain(nested)
            })
            .collect()
    }

    /// The axes, in the order of the file.
    pub fn axes(&self) -> Vec<&str> {
        let mut axes: Vec<&str> = Vec::new();
        for choice in self.choices() {
            if !axes.contains(&choice.axis.as_str()) {
                axes.push(&choice.axis);
            }
        }
        axes
    }

    /// All conditions, of nested blocks too.
    fn conditions(&self) -> Vec<&Placed> {
        let alternatives = self.parts.iter().flat_map(|part| &part.0);
        let within = alternatives.flat_map(|alternative| {
            let nested = alternative.nested.as_ref().map(Self::conditions).unwrap_or_default();
            alternative.when.iter().chain(nested)
        });
        self.exclude.iter().chain(within).collect()
    }

    /// Conditions that never hold: of keys that do not vary, and of values that they never have.
    pub fn problems_of_conditions(&self) -> (Vec<Problem>, Vec<Problem>) {
        let choices = self.choices();
        let known: Vec<(&str, &Value)> = choices.iter().flat_map(|choice| choice.settings()).collect();
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for Placed { condition, place } in self.conditions() {
            let (of_keys, of_values) = condition.problems(&known);
            keys.extend(of_keys.into_iter().map(|problem| problem.within(place)));
            values.extend(of_values.into_iter().map(|problem| problem.within(place)));
        }
        (keys, values)
    }
}

impl Part {
    fn count(&self) -> u64 {
        let nested = |alternative: &Alternative| alternative.nested.as_ref().map_or(1, Block::count);
        self.0.iter().fold(0, |sum: u64, alternative| sum.saturating_add(nested(alternative)))
    }
}

impl Choice {
    /// The names under which a condition may ask for it, each with its value: the axis, and what a named
    /// variant sets.
    pub fn settings(&self) -> impl Iterator<Item = (&str, &Value)> + Clone {
        let set = self.assignments.iter().filter(|_| self.axis == VARIANT);
        let set = set.map(|assignment| (assignment.name.as_str(), &assignment.value));
        std::iter::once((self.axis.as_str(), &self.value)).chain(set)
    }
}

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

    /// The axes that concern any of these stages, with their values. Names of nested variants are joined:
    /// `regular/large`.
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
