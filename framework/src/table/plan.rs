//! The runs that the rows of a table require.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::error::TableError;
use super::spec::{ColumnSpec, Paths, RowSpec, TableSpec, is_pattern};
use crate::condition::Condition;
use crate::engine::training_seconds;
use crate::graph::{self, Checked, catalog};
use crate::recipe::{Catalog, Diagnostics, Document, Problem, Recipe, Sources, clean, list, nearest};
use crate::sweep::{self, PlannedRun, Sweep};

/// The runs of a row.
#[derive(Debug, Default)]
pub struct RowPlan {
    /// In the order in which they are made.
    pub runs: Vec<RequiredRun>,
    /// Its stage where a column names none.
    pub last_stage: String,
}

/// A run that a row shows.
#[derive(Debug)]
pub struct RequiredRun {
    /// Its stage; empty if it stands for all of them.
    pub stage: String,
    pub directory: PathBuf,
    /// Whether `directory` is a pattern that nothing matches.
    pub is_pattern: bool,
    /// What its recipe says; `None` for a directory that is shown whatever its recipe.
    pub known: Option<Known>,
    /// The arguments of the program that make it.
    pub command: Option<Vec<String>>,
}

/// What is known of a run without running it.
#[derive(Debug, Clone)]
pub struct Known {
    pub file: PathBuf,
    /// The resolved recipe.
    pub recipe: Recipe,
    pub digest: String,
    pub parameters: usize,
    pub gmacs: f64,
    /// Seconds that its training takes here, if the table asks for them and they are known.
    pub seconds: Option<f64>,
    /// Whether runs with other seeds are of this recipe, too.
    pub any_seed: bool,
}

/// Turns rows into runs.
pub struct Planner<'d> {
    document: &'d Document,
    /// Where the table file is.
    folder: &'d Path,
    /// Where runs are looked for.
    root: &'d Path,
    catalog: Catalog,
    /// Whether the table asks how long runs take.
    asks_seconds: bool,
    /// Sweeps that were expanded, by their files.
    sweeps: BTreeMap<PathBuf, (Sweep, sweep::Plan)>,
}

impl<'d> Planner<'d> {
    pub fn new(document: &'d Document, folder: &'d Path, root: &'d Path) -> Self {
        Self { document, folder, root, catalog: catalog(), asks_seconds: false, sweeps: BTreeMap::new() }
    }

    /// The runs of all rows.
    pub fn rows(mut self, table: &TableSpec) -> Result<Vec<RowPlan>, TableError> {
        self.asks_seconds = table.columns.iter().any(ColumnSpec::is_hours);
        let shown: HashSet<&str> =
            table.columns.iter().filter_map(|column| column.stage.as_deref()).collect();
        table.rows.iter().enumerate().map(|(at, row)| self.row(&format!("rows.{at}"), row, &shown)).collect()
    }

    fn row(&mut self, place: &str, row: &RowSpec, shown: &HashSet<&str>) -> Result<RowPlan, TableError> {
        if let Some(file) = &row.sweep {
            let file = self.file(&format!("{place}.sweep"), file)?;
            self.expand(&file)?;
            return Ok(self.of_sweep(place, row, &file, shown)?);
        }
        let mut runs = Vec::new();
        if let Some(recipe) = &row.recipe {
            let stage = row.stage.as_deref().unwrap_or_default();
            runs.extend(self.of_recipe(&format!("{place}.recipe"), stage, recipe, &row.set, &row.run)?);
        } else {
            let stage = row.stage.clone().unwrap_or_default();
            let required = |RunPath { directory, is_pattern }| RequiredRun {
                stage: stage.clone(),
                directory,
                is_pattern,
                known: None,
                command: None,
            };
            runs.extend(self.run_paths(&format!("{place}.run"), &row.run)?.into_iter().map(required));
        }
        for (stage, spec) in &row.stages.0 {
            let (recipe, set, run) = spec.parts();
            runs.extend(self.of_recipe(&format!("{place}.stages.{stage}"), stage, recipe, &set, &run)?);
        }
        let last_stage = runs.last().map(|run| run.stage.clone()).unwrap_or_default();
        Ok(RowPlan { runs, last_stage })
    }

    /// The runs that meet the conditions of a row, in its stage; those of other stages that they start from or
    /// that start from them; and beside them, of the stages that columns name, those of the same combinations.
    ///
    /// # Errors
    /// When the sweep has no such stage, key or value.
    fn of_sweep(
        &self,
        place: &str,
        row: &RowSpec,
        file: &Path,
        shown: &HashSet<&str>,
    ) -> Result<RowPlan, Diagnostics> {
        let Some((sweep, plan)) = self.sweeps.get(file) else { return Ok(RowPlan::default()) };
        let stages = sweep.stages();
        let stage = match &row.stage {
            Some(stage) => stage.as_str(),
            None => stages.last().copied().unwrap_or_default(),
        };
        if row.stage.is_some() && !stages.contains(&stage) {
            let problem = Problem::new(format!("{place}.stage"), format!("the sweep has no stage `{stage}`"));
            let help = match (nearest(stage, stages.iter().copied()), stages.is_empty()) {
                (Some(near), _) => format!("did you mean `{near}`?"),
                (None, true) => "it has one recipe: remove `stage`".to_owned(),
                (None, false) => format!("its stages are {}", list(&stages)),
            };
            return Err(self.document.diagnose(vec![problem.help(help)]));
        }
        let of_stage: Vec<usize> = (0..plan.runs.len()).filter(|&at| plan.runs[at].stage == stage).collect();
        let within = format!("{place}.where");
        let refuse = |problems: Vec<Problem>| {
            let problems = problems.into_iter().map(|problem| problem.within(&within));
            Err(self.document.diagnose(problems.collect()))
        };
        let condition = match Condition::from_map(&row.conditions) {
            Ok(condition) => condition,
            Err(problems) => return refuse(problems),
        };
        let known: Vec<_> = of_stage.iter().flat_map(|&at| settings(&plan.runs[at])).collect();
        let (keys, values) = condition.problems(&known);
        let problems = [keys, values].concat();
        if !problems.is_empty() {
            return refuse(problems);
        }
        let selected: Vec<usize> =
            of_stage.into_iter().filter(|&at| condition.is_met(&settings(&plan.runs[at]))).collect();
        if selected.is_empty() {
            return refuse(vec![Problem::new("", "no run of the sweep has all of these values")]);
        }
        let mut command = vec!["sweep".to_owned(), file.to_string_lossy().into_owned()];
        if let Some(folder) = self.sweep_folder(sweep) {
            command.extend(["--out".to_owned(), folder.to_string_lossy().into_owned()]);
        }
        let belongs = |run: usize, other: usize| {
            let of = &plan.runs[run];
            let is_beside = shown.contains(of.stage.as_str()) && !sweep.are_chained(&of.stage, stage);
            is_related(plan, run, other) || (is_beside && of.shares_a_combination(&plan.runs[other]))
        };
        let related = (0..plan.runs.len()).filter(|&run| selected.iter().any(|&other| belongs(run, other)));
        let runs = related.map(|at| {
            let run = &plan.runs[at];
            Ok(RequiredRun {
                stage: run.stage.clone(),
                directory: tidy(&run.directory),
                is_pattern: false,
                known: Some(self.known(&run.sources)?),
                command: Some(command.clone()),
            })
        });
        Ok(RowPlan { runs: runs.collect::<Result<_, Diagnostics>>()?, last_stage: stage.to_owned() })
    }

    fn of_recipe(
        &self,
        place: &str,
        stage: &str,
        recipe: &Path,
        set: &Map<String, Value>,
        run: &Paths,
    ) -> Result<Vec<RequiredRun>, TableError> {
        let file = self.file(place, recipe)?;
        let mut sources = Sources::from_env(&file);
        sources.sets = set.iter().map(|(key, value)| format!("{key}={}", sweep::argument(value))).collect();
        let known = self.known(&sources)?;
        let name = known.recipe.get("name").and_then(Value::as_str).unwrap_or_default();
        let named = self.run_paths(&format!("{place}.run"), run)?;
        let is_default = named.is_empty();
        let default =
            is_default.then(|| RunPath { directory: tidy(&self.root.join(name)), is_pattern: false });
        let any_seed = run.is_several();
        let required = |RunPath { directory, is_pattern }| RequiredRun {
            stage: stage.to_owned(),
            command: (!any_seed).then(|| self.run_command(&sources, &directory, is_default)),
            directory,
            is_pattern,
            known: Some(Known { any_seed, ..known.clone() }),
        };
        Ok(named.into_iter().chain(default).map(required).collect())
    }

    /// What is known of a recipe.
    fn known(&self, sources: &Sources) -> Result<Known, Diagnostics> {
        let (recipe, Checked { summary, experiment, .. }) = graph::load(sources, &self.catalog)?;
        Ok(Known {
            file: sources.recipe.clone(),
            digest: recipe.digest(),
            parameters: summary.parameters,
            gmacs: summary.macs.computed as f64 / 1e9,
            seconds: self.asks_seconds.then(|| training_seconds(&recipe, &experiment)).flatten(),
            any_seed: false,
            recipe,
        })
    }

    fn run_command(&self, sources: &Sources, directory: &Path, is_default: bool) -> Vec<String> {
        let mut words = vec!["run".to_owned(), sources.recipe.to_string_lossy().into_owned()];
        for set in &sources.sets {
            words.extend(["--set".to_owned(), set.clone()]);
        }
        if !is_default || !self.has_usual_root() {
            words.extend(["--out".to_owned(), directory.to_string_lossy().into_owned()]);
        }
        words
    }

    fn expand(&mut self, file: &Path) -> Result<(), TableError> {
        if !self.sweeps.contains_key(file) {
            let sweep = Sweep::load(file)?;
            let plan = sweep.expand(self.sweep_folder(&sweep).as_deref(), &[])?;
            self.sweeps.insert(file.to_owned(), (sweep, plan));
        }
        Ok(())
    }

    /// Where the runs of a sweep are, unless it is the usual place.
    fn sweep_folder(&self, sweep: &Sweep) -> Option<PathBuf> {
        (!self.has_usual_root()).then(|| self.root.join(sweep.name()))
    }

    fn has_usual_root(&self) -> bool {
        clean(self.root) == Path::new("runs")
    }

    /// A file that the table names.
    fn file(&self, place: &str, name: &Path) -> Result<PathBuf, Diagnostics> {
        let file = clean(&self.folder.join(name));
        if file.is_file() {
            return Ok(file);
        }
        let problem = Problem::new(place, format!("there is no file {}", file.display()));
        Err(self.document.diagnose(vec![problem.help("paths are relative to the table's file")]))
    }

    /// The directories that a row names itself, each once. A pattern that nothing matches stands for itself.
    fn run_paths(&self, place: &str, run: &Paths) -> Result<Vec<RunPath>, Diagnostics> {
        let mut found = Vec::new();
        for path in run.iter() {
            let is_directory = Path::new(path).is_dir();
            if is_directory || !is_pattern(path) {
                found.push(RunPath { directory: tidy(Path::new(path)), is_pattern: false });
                continue;
            }
            let paths = glob::glob(path).map_err(|error| {
                let problem = Problem::new(place, format!("`{path}` is no pattern: {}", error.msg));
                self.document
                    .diagnose(vec![problem.help("`*` stands for any part of a name: `runs/probe_*`")])
            })?;
            let before = found.len();
            let directories = paths.flatten().filter(|path| path.is_dir());
            found.extend(directories.map(|path| RunPath { directory: tidy(&path), is_pattern: false }));
            if found.len() == before {
                found.push(RunPath { directory: PathBuf::from(path), is_pattern: true });
            }
        }
        let mut seen = HashSet::new();
        let identity = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        found.retain(|named| seen.insert(identity(&named.directory)));
        Ok(found)
    }
}

/// A directory that a row names.
struct RunPath {
    directory: PathBuf,
    /// Whether it is a pattern that nothing matches.
    is_pattern: bool,
}

/// The one way to write a directory, by which it is found again.
fn tidy(directory: &Path) -> PathBuf {
    let clean = clean(directory);
    if clean.as_os_str().is_empty() { PathBuf::from(".") } else { clean }
}

/// What varies, and the values that a run has of it.
fn settings(run: &PlannedRun) -> impl Iterator<Item = (&str, &Value)> + Clone {
    run.axes.iter().map(|(key, value)| (key.as_str(), value))
}

/// Whether two runs are the same, or one starts from the other, if not at once. Runs of one stage never do.
fn is_related(plan: &sweep::Plan, one: usize, other: usize) -> bool {
    let lineage = |run: usize| std::iter::successors(Some(run), |&at| plan.runs[at].upstream);
    lineage(one).any(|run| run == other) || lineage(other).any(|run| run == one)
}
