//! Reads the `sweep:` block of a file, and finds what is wrong with it.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::block::{Alternative, Block, Choice, Part, Placed};
use super::name::{SEED, VARIANT, is_reserved};
use super::stage::{Assignment, Stages};
use crate::condition::Condition;
use crate::recipe::{Problem, is_within};

/// Reads blocks and collects what is wrong with them.
pub(super) struct BlockReader<'a> {
    pub stages: &'a Stages,
    pub problems: Vec<Problem>,
    /// Problems with keys rather than their values.
    pub keys: Vec<Problem>,
}

impl BlockReader<'_> {
    /// Reads the block at a place of the file, within others that vary the keys `taken`.
    pub fn block(&mut self, block: &Value, place: &str, taken: &KeyOwners) -> Block {
        let mut taken = taken.clone();
        let mut read = Block::default();
        let entries = || block.as_object().into_iter().flatten();
        // Lists last: what is nested in them must know all the other keys.
        for (name, value) in entries().filter(|(name, _)| *name != "list") {
            let place = format!("{place}.{name}");
            match name.as_str() {
                "grid" => self.claim_all(value, &place, &mut taken),
                "zip" => {
                    self.claim_all(value, &place, &mut taken);
                    self.check_lengths(value, &place);
                }
                "seeds" => {
                    let stages = self.stages;
                    stages.unseeded().for_each(|stage| self.claim(SEED, stage, SEED, &place, &mut taken));
                }
                _ => {}
            }
        }
        for (name, value) in entries() {
            let place = format!("{place}.{name}");
            match name.as_str() {
                "grid" => read.parts.extend(self.grid(value, &place)),
                "zip" => read.parts.extend(self.zip(value, &place)),
                "list" => read.parts.push(self.list(value, &place, &taken)),
                "seeds" => read.parts.push(self.seeds(value, &place)),
                _ => {
                    let conditions = items(value).iter().enumerate();
                    read.exclude =
                        conditions.map(|(at, map)| self.condition(map, format!("{place}.{at}"))).collect();
                }
            }
        }
        read
    }

    fn claim_all(&mut self, values: &Value, place: &str, taken: &mut KeyOwners) {
        for name in values.as_object().into_iter().flat_map(Map::keys) {
            // What stands for no key is told where its values are read.
            if let Ok((stage, key)) = self.stages.target(name) {
                self.claim(name, stage, &key, &format!("{place}.{name}"), taken);
            }
        }
    }

    fn claim(&mut self, name: &str, stage: usize, key: &str, place: &str, taken: &mut KeyOwners) {
        self.keys.extend(taken.claim(name, stage, key, place).err());
    }

    fn check_lengths(&mut self, zip: &Value, place: &str) {
        let mut lists = zip.as_object().into_iter().flatten().map(|(key, values)| (key, items(values).len()));
        let Some((first, length)) = lists.next() else { return };
        for (key, other) in lists.filter(|(_, other)| *other != length) {
            let message = format!("{other} values, but `{first}` has {length}");
            let problem = Problem::new(format!("{place}.{key}"), message);
            self.problems.push(
                problem.help("lists of a `zip` are taken in step: give them one length, or use `grid`"),
            );
        }
    }

    fn grid(&mut self, grid: &Value, place: &str) -> Vec<Part> {
        let keys = grid.as_object().into_iter().flatten();
        keys.map(|(key, values)| {
            let choices = self.choices(key, values, &format!("{place}.{key}"));
            Part(
                choices
                    .map(|choice| Alternative { choices: vec![choice], ..Alternative::default() })
                    .collect(),
            )
        })
        .collect()
    }

    fn zip(&mut self, zip: &Value, place: &str) -> Option<Part> {
        let mut alternatives: Vec<Alternative> = Vec::new();
        for (key, values) in zip.as_object().into_iter().flatten() {
            for (at, choice) in self.choices(key, values, &format!("{place}.{key}")).enumerate() {
                alternatives.resize_with(alternatives.len().max(at + 1), Alternative::default);
                alternatives[at].choices.push(choice);
            }
        }
        (!alternatives.is_empty()).then_some(Part(alternatives))
    }

    /// The values of one key.
    fn choices<'v>(
        &mut self,
        name: &'v str,
        values: &'v Value,
        place: &str,
    ) -> impl Iterator<Item = Choice> + use<'v> {
        let target = self.target(name, place);
        let place = place.to_owned();
        items(values).iter().enumerate().map(move |(at, value)| {
            let assignment = target.clone().map(|(stage, key)| Assignment {
                name: name.to_owned(),
                stage,
                key,
                value: value.clone(),
                place: format!("{place}.{at}"),
            });
            Choice {
                axis: name.to_owned(),
                value: value.clone(),
                assignments: assignment.into_iter().collect(),
            }
        })
    }

    /// The stage and the key that a key of the file stands for.
    fn target(&mut self, key: &str, place: &str) -> Option<(usize, String)> {
        match self.stages.target(key) {
            Ok(target) => Some(target),
            Err(problem) => {
                self.keys.push(Problem { key: place.to_owned(), ..problem });
                None
            }
        }
    }

    fn list(&mut self, list: &Value, place: &str, taken: &KeyOwners) -> Part {
        let mut names = HashSet::new();
        let mut alternatives = Vec::new();
        for (at, item) in items(list).iter().enumerate() {
            let place = format!("{place}.{at}");
            let name = item.get("name").and_then(Value::as_str);
            if let Some(name) = name.filter(|name| !names.insert((*name).to_owned())) {
                let problem =
                    Problem::new(format!("{place}.name"), format!("another variant is called `{name}`"));
                self.problems.push(problem.help("give every variant a name of its own"));
            }
            if let Some(name) = name.filter(|name| is_reserved(name)) {
                let problem = Problem::new(
                    format!("{place}.name"),
                    format!("a run called `{name}` would be mixed up with a file of the sweep"),
                );
                let help = "choose a name that does not end in `.log`, `.json`, `.sbatch` or `.out`";
                self.problems.push(problem.help(help));
            }
            alternatives.push(self.item(item, name, &place, taken));
        }
        Part(alternatives)
    }

    fn item(&mut self, item: &Value, name: Option<&str>, place: &str, taken: &KeyOwners) -> Alternative {
        let (mut taken, around) = (taken.clone(), taken.len());
        let set = item.get("set").unwrap_or(&Value::Null);
        let set_place = format!("{place}.set");
        self.claim_all(set, &set_place, &mut taken);
        let mut choices = Vec::new();
        for (name_of_key, value) in set.as_object().into_iter().flatten() {
            let place = format!("{set_place}.{name_of_key}");
            let target = self.target(name_of_key, &place);
            let assignment = target.map(|(stage, key)| Assignment {
                name: name_of_key.clone(),
                stage,
                key,
                value: value.clone(),
                place,
            });
            choices.push(Choice {
                axis: name_of_key.clone(),
                value: value.clone(),
                assignments: assignment.into_iter().collect(),
            });
        }
        if let Some(name) = name {
            let assignments = choices.into_iter().flat_map(|choice| choice.assignments).collect();
            choices = vec![Choice { axis: VARIANT.to_owned(), value: name.into(), assignments }];
        }
        let when = item.get("when").map(|when| self.condition(when, format!("{place}.when")));
        let taken = taken.nested(around);
        let nested = item.get("sweep").map(|block| self.block(block, &format!("{place}.sweep"), &taken));
        Alternative { choices, when, nested }
    }

    fn condition(&mut self, map: &Value, place: String) -> Placed {
        let read = map.as_object().map_or_else(|| Ok(Condition::default()), Condition::from_map);
        let condition = read.unwrap_or_else(|problems| {
            self.problems.extend(problems.into_iter().map(|problem| problem.within(&place)));
            Condition::default()
        });
        Placed { condition, place }
    }

    fn seeds(&mut self, seeds: &Value, place: &str) -> Part {
        let count = seeds.as_u64().unwrap_or_default();
        let numbers: Vec<(Value, String)> = match seeds.as_array() {
            Some(seeds) => {
                seeds.iter().enumerate().map(|(at, seed)| (seed.clone(), format!("{place}.{at}"))).collect()
            }
            None => (0..count).map(|seed| (seed.into(), place.to_owned())).collect(),
        };
        let alternative = |(value, place): (Value, String)| {
            let assign = |stage| Assignment {
                name: SEED.to_owned(),
                stage,
                key: SEED.to_owned(),
                value: value.clone(),
                place: place.clone(),
            };
            let assignments = self.stages.unseeded().map(assign).collect();
            Alternative {
                choices: vec![Choice { axis: SEED.to_owned(), value: value.clone(), assignments }],
                ..Alternative::default()
            }
        };
        Part(numbers.into_iter().map(alternative).collect())
    }
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The keys that vary in a block and in those around it. A key that is set twice, or once more with a block
/// around it, would lose values without a word.
#[derive(Debug, Clone, Default)]
pub(super) struct KeyOwners(Vec<KeyOwner>);

#[derive(Debug, Clone)]
struct KeyOwner {
    /// The key as the file has it.
    name: String,
    stage: usize,
    /// The key in the recipe.
    key: String,
    /// Whether keys within it may be set: it is always set before them.
    is_around: bool,
}

impl KeyOwners {
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Claims a key of a stage's recipe.
    ///
    /// # Errors
    /// When it varies already, or one within it, or one around it.
    pub fn claim(&mut self, name: &str, stage: usize, key: &str, place: &str) -> Result<(), Problem> {
        let around = |owner: &KeyOwner| is_within(key, &owner.key) && (owner.key == key || !owner.is_around);
        let conflicts =
            |owner: &&KeyOwner| owner.stage == stage && (around(owner) || is_within(&owner.key, key));
        let other = self.0.iter().find(conflicts).cloned();
        let (name, key) = (name.to_owned(), key.to_owned());
        let Some(other) = other else {
            self.0.push(KeyOwner { name, stage, key, is_around: false });
            return Ok(());
        };
        let (message, help) = if other.key == key {
            ("varies already", "name a key once, and give all of its values there")
        } else if is_within(&key, &other.key) {
            ("around it varies already", "vary either a whole block or keys within it")
        } else {
            ("within it varies already", "vary either a whole block or keys within it")
        };
        Err(Problem::new(place, format!("`{}` {message}", other.name)).help(help))
    }

    /// The owners as seen by what is nested in a variant, which set those after the first `before`: what a
    /// variant sets comes first.
    pub fn nested(mut self, before: usize) -> Self {
        self.0.iter_mut().skip(before).for_each(|owner| owner.is_around = true);
        self
    }
}
