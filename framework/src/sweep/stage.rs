//! The recipes of a sweep: one, or a chain of them.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::name::SEED;
use super::root::short;
use crate::recipe::{Problem, list, nearest};

/// A key of one stage's recipe, a value for it, and where the file says so.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Assignment {
    /// The key as the file has it, with its stage: `finetune.optimizer.lr`.
    pub name: String,
    pub stage: usize,
    /// The key in the recipe: `optimizer.lr`.
    pub key: String,
    pub value: Value,
    pub place: String,
}

/// A recipe of the sweep.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Stage {
    /// Empty where the sweep has one recipe and no stages.
    pub name: String,
    pub recipe: PathBuf,
    pub set: Vec<Assignment>,
    /// The stage whose weights it starts from.
    pub init_from: Option<usize>,
    /// Where the file names the recipe.
    pub place: String,
}

/// The stages, in the order of the file.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Stages(pub Vec<Stage>);

impl Stages {
    /// Reads the stages of a valid sweep file at `path`, and what is wrong with them.
    pub fn read(file: &Value, path: &Path) -> (Self, Vec<Problem>) {
        let folder = path.parent().unwrap_or(Path::new(""));
        let named = file.get("stages").and_then(Value::as_object);
        let mut problems = problem_of_recipe(file).into_iter().collect::<Vec<_>>();
        let Some(named) = named else {
            let set = assignments(file.get("set"), 0, "", "set");
            let recipe = recipe_path(file, folder);
            let place = "recipe".to_owned();
            return (
                Self(vec![Stage { name: String::new(), recipe, set, init_from: None, place }]),
                problems,
            );
        };
        let names: Vec<&String> = named.keys().collect();
        let mut stages = Vec::new();
        for (at, (name, stage)) in named.iter().enumerate() {
            let place = format!("stages.{name}");
            if !is_plain(name) {
                let problem =
                    Problem::new(&place, "the name of a stage is made of letters, digits, `_` and `-`");
                problems.push(problem);
            }
            let upstream = stage.get("init_from").and_then(Value::as_str);
            let init_from = upstream.and_then(|upstream| {
                let found = names.iter().position(|name| *name == upstream);
                problems.extend(found.is_none().then(|| {
                    Problem::new(format!("{place}.init_from"), format!("there is no stage `{upstream}`"))
                        .help(one_of(upstream, &names))
                }));
                found
            });
            stages.push(Stage {
                name: name.clone(),
                recipe: recipe_path(stage, folder),
                set: assignments(stage.get("set"), at, name, &format!("{place}.set")),
                init_from,
                place: format!("{place}.recipe"),
            });
        }
        let stages = Self(stages);
        problems.extend(stages.circles());
        (stages, problems)
    }

    /// Whether keys are prefixed by their stage.
    pub fn are_named(&self) -> bool {
        self.0.iter().any(|stage| !stage.name.is_empty())
    }

    /// The stage and the recipe's key that a key of the file stands for.
    pub fn target(&self, name: &str) -> Result<(usize, String), Problem> {
        if !self.are_named() {
            return Ok((0, name.to_owned()));
        }
        let (stage, key) = name.split_once('.').unwrap_or((name, ""));
        match self.0.iter().position(|other| other.name == stage) {
            Some(at) if !key.is_empty() => Ok((at, key.to_owned())),
            Some(_) => Err(Problem::new(name, format!("which key of the stage `{stage}`?"))
                .help(format!("write `{stage}.optimizer.lr`"))),
            None => {
                let names: Vec<_> = self.0.iter().map(|stage| &stage.name).collect();
                Err(Problem::new(name, format!("there is no stage `{stage}`"))
                    .help(format!("a key begins with the name of its stage; {}", one_of(stage, &names))))
            }
        }
    }

    /// The stages whose seed is not fixed.
    pub fn unseeded(&self) -> impl Iterator<Item = usize> {
        let fixed = |stage: &Stage| stage.set.iter().any(|assignment| assignment.key == SEED);
        self.0.iter().enumerate().filter(move |(_, stage)| !fixed(stage)).map(|(at, _)| at)
    }

    /// Sources before what starts from them. Stages in circles are left out.
    pub fn in_order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = Vec::new();
        while let Some(next) = (0..self.0.len()).find(|at| {
            !order.contains(at) && self.0[*at].init_from.is_none_or(|upstream| order.contains(&upstream))
        }) {
            order.push(next);
        }
        order
    }

    /// A stage and those before it, the nearest first.
    pub fn lineage(&self, stage: usize) -> impl Iterator<Item = usize> {
        std::iter::successors(Some(stage), |at| self.0[*at].init_from)
    }

    fn circles(&self) -> Option<Problem> {
        let order = self.in_order();
        let circle: Vec<&Stage> =
            (0..self.0.len()).filter(|at| !order.contains(at)).map(|at| &self.0[at]).collect();
        let first = circle.first()?;
        let names = list(circle.iter().map(|stage| &stage.name));
        let problem = Problem::new(
            format!("stages.{}.init_from", first.name),
            format!("these stages wait for each other: {names}"),
        );
        Some(problem.help("the first stage of a chain has no `init_from`"))
    }
}

fn problem_of_recipe(file: &Value) -> Option<Problem> {
    match (file.get("recipe"), file.get("stages").and_then(Value::as_object)) {
        (Some(_), Some(_)) => Some(
            Problem::new("stages", "a sweep has either `recipe` or `stages`")
                .help("name the recipe under `stages` as well, or remove one of the two"),
        ),
        (None, None) => Some(
            Problem::new("name", "the sweep names no recipe")
                .help("write `recipe: FILE`, or `stages:` for a chain; paths are relative to this file"),
        ),
        (_, Some(stages)) if stages.is_empty() => Some(Problem::new("stages", "there is no stage")),
        (None, Some(_)) if file.get("set").is_some() => {
            Some(Problem::new("set", "`set` goes with `recipe`").help("a stage has a `set` of its own"))
        }
        _ => None,
    }
}

fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|letter| letter.is_ascii_alphanumeric() || "_-".contains(letter))
}

fn one_of(name: &str, known: &[&String]) -> String {
    match nearest(name, known.iter().map(|known| known.as_str())) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("the stages are {}", list(known)),
    }
}

fn recipe_path(stage: &Value, folder: &Path) -> PathBuf {
    short(&folder.join(stage.get("recipe").and_then(Value::as_str).unwrap_or_default()))
}

fn assignments(set: Option<&Value>, stage: usize, name: &str, place: &str) -> Vec<Assignment> {
    let set = set.and_then(Value::as_object).into_iter().flat_map(Map::iter);
    set.map(|(key, value)| Assignment {
        name: if name.is_empty() { key.clone() } else { format!("{name}.{key}") },
        stage,
        key: key.clone(),
        value: value.clone(),
        place: format!("{place}.{key}"),
    })
    .collect()
}
