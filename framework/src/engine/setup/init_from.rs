//! Parameters from weights: of a file, or of a run.

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};

use miette::Diagnostic as _;
use serde_json::{Map, Value as Json};

use crate::component::Problem;
use crate::engine::train::checkpoint::CheckpointStore;
use crate::experiment::{InitFrom, InitSource, Node};
use crate::graph::{self, Checked, Model, catalog};
use crate::nn::{self, Param, Scope};
use crate::recipe::{Recipe, Sources, nearest_path};
use crate::report::{RunDir, similar_run};
use crate::weights::names::{Expected, Rule, fit};
use crate::weights::{self, HostTensor, KeyReport, Selection, TensorMap, WeightsError, match_keys};

use super::EngineError;
use super::image_channels::ChannelAdaptation;
use super::position_grids::SavedGrids;

/// Loads a weights file, or an entry of it, into parameters. Every name must be in both, with the same shape.
/// Returns what the file holds besides.
pub fn load_weights(
    params: &[Param],
    path: &Path,
    entry: Option<&str>,
) -> Result<Map<String, Json>, EngineError> {
    let source = Source::read(path, entry, params, &[], &[])?;
    let report = source.match_keys(params);
    source.check(
        params,
        &report,
        "every tensor of the file and every parameter of the model must be in both",
    )?;
    source.set(params, &report, 0)?;
    if !report.notes.is_empty() {
        tracing::info!("weights of {}: {report}", path.display());
    }
    Ok(source.metadata)
}

/// Loads what a part of a model needs of a weights file, as [`load_weights`] does for a whole one.
pub fn load_part(params: &[Param], path: &Path, entry: Option<&str>) -> Result<(), EngineError> {
    let source = Source::read(path, entry, params, &[], &[])?;
    let mut report = source.match_keys(params);
    report.allow(|_| false, |_| true);
    source.check(params, &report, "every parameter of the backbone and the necks must be in the file")?;
    Ok(source.set(params, &report, 0)?)
}

/// Loads the weights that a recipe starts from, as far as it wants them, and tells what came of it.
pub fn initialize(recipe: &Recipe, model: &Model, from: &InitFrom) -> Result<(), EngineError> {
    let start = Start::read(model, from).map_err(|problem| recipe.diagnose(vec![problem]))?;
    tracing::info!("{start}");
    Ok(start.source.set(&model.params(), &start.report, model.image.channels)?)
}

/// The weights that a recipe starts from, and what a model takes of them.
pub struct Start {
    source: Source,
    report: KeyReport,
}

impl Start {
    /// Reads the weights for a model, which need only be described.
    ///
    /// # Errors
    /// That they are not there or do not fit, as a problem of the recipe.
    pub fn read(model: &Model, from: &InitFrom) -> Result<Self, Problem> {
        let (key, path) = weights_file(from)?;
        let (rules, params) = (from.rules()?, model.params());
        let at = |error: EngineError| problem(key, &error);
        let source =
            Source::read(&path, from.entry.as_deref(), &params, &model.prefixes(), &rules).map_err(at)?;
        let mut report = source.match_keys(&params);
        report.interpolate(|pair| {
            let param = params.iter().find(|param| param.name() == pair.name);
            param.is_some_and(|param| source.grids.interpolation(param, &pair.file).is_some())
        });
        let channels = model.image.channels;
        report.adapt(|pair| ChannelAdaptation::of(&pair.file, &pair.expected, channels).is_some());
        let heads: HashSet<String> =
            model.head_params().iter().map(|param| param.name().to_owned()).collect();
        let in_file: HashSet<&str> = source.tensors.names().collect();
        let is_new = |name: &str| from.new.contain(name) || heads.contains(name) && !in_file.contains(name);
        let elsewhere = match report.unexpected.is_empty() {
            true => HashSet::new(),
            false => params_of_other_nodes(&path, model),
        };
        report.allow(is_new, |name| from.leave.contain(name) || elsewhere.contains(name));
        let help = help_for(&report);
        source.check(&params, &report, &help).map_err(at)?;
        Ok(Self { source, report })
    }
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "weights of {}: {}", self.source.path.display(), self.report)
    }
}

/// What would be right of weights that do not fit: the lines of `init_from` that allow for it.
fn help_for(report: &KeyReport) -> String {
    let mismatched = report.mismatched.iter().map(|pair| &pair.name);
    let anew: Vec<&String> = report.missing.iter().chain(mismatched).collect();
    let lines = [
        ("leave", report.unexpected.iter().collect(), "leaves these in the file"),
        ("new", anew, "starts these anew"),
    ];
    let line = |(key, names, effect): (&str, Vec<&String>, &str)| {
        let line =
            format!("`init_from.{key}` {effect}: `{key}: [{}]`", patterns(&names, &report.loaded).join(", "));
        (!names.is_empty()).then_some(line)
    };
    let lines = lines.into_iter().filter_map(line).filter(|_| !report.loaded.is_empty());
    let has_other_names =
        !report.unexpected.is_empty() && !report.missing.is_empty() || report.loaded.is_empty();
    let rename = "`init_from.rename` renames tensors that have other names here".to_owned();
    lines.chain(has_other_names.then_some(rename)).collect::<Vec<_>>().join("\n")
}

/// Patterns that stand for these names and for none of others: `decoder_blocks.*`.
fn patterns(names: &[&String], others: &[String]) -> Vec<String> {
    let mut patterns: Vec<String> = Vec::new();
    for name in names {
        let mut prefixes = name.match_indices('.').map(|(dot, _)| &name[..=dot]);
        let alone = prefixes.find(|prefix| !others.iter().any(|other| other.starts_with(prefix)));
        let pattern = alone.map_or_else(|| (*name).clone(), |prefix| format!("{prefix}*"));
        if !patterns.contains(&pattern) {
            patterns.push(pattern);
        }
    }
    patterns
}

/// Asks for a path that is there and named almost like this.
pub fn did_you_mean(path: &Path) -> Option<String> {
    nearest_path(path).map(|meant| format!("did you mean `{}`?", meant.display()))
}

/// The parameters of nodes that the run which left the weights has, and the model has not.
fn params_of_other_nodes(weights: &Path, model: &Model) -> HashSet<String> {
    let of_run = || {
        let run = RunDir::inspect(weights.ancestors().skip(1).take(2).find(|folder| RunDir::is_run(folder))?)
            .ok()?;
        let sources = Sources { recipe: run.recipe(), ..Sources::default() };
        let (_, Checked { plan, image, .. }) = graph::load(&sources, &catalog()).ok()?;
        Model::build(&plan, image, &Scope::describe()).ok()
    };
    let (of_run, own) = (of_run(), model.params_by_node());
    let is_here =
        |node: &Node| own.iter().any(|(own, _)| (&own.name, &own.type_name) == (&node.name, &node.type_name));
    let nodes = of_run.iter().flat_map(Model::params_by_node).filter(|(node, _)| !is_here(node));
    nodes.flat_map(|(_, params)| params).map(|param| param.name().to_owned()).collect()
}

/// An error of weights as a problem of the recipe that names them.
fn problem(key: &str, error: &EngineError) -> Problem {
    let help = error.help().map(|help| help.to_string());
    Problem { help, ..Problem::new(key, error.to_string()) }
}

/// The weights file that a recipe starts from, and the key that names it.
///
/// # Errors
/// That it is not there.
pub fn weights_file(from: &InitFrom) -> Result<(&'static str, PathBuf), Problem> {
    match from.source()? {
        InitSource::File(path) if path.exists() => Ok(("init_from.weights", path.to_path_buf())),
        InitSource::File(path) => {
            let problem =
                Problem::new("init_from.weights", format!("{}: there is no such file", path.display()));
            Err(Problem { help: did_you_mean(path), ..problem })
        }
        InitSource::Run(root) if RunDir::is_run(root) => {
            let weights = weights_of_run(root).map_err(|error| problem("init_from.run", &error))?;
            Ok(("init_from.run", weights))
        }
        InitSource::Run(root) => {
            let problem = Problem::new("init_from.run", format!("{}: there is no run", root.display()));
            Err(Problem { help: similar_run(root), ..problem })
        }
    }
}

/// A checkpoint of a run, by a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunWeights {
    /// The best by the metric that decides.
    Best,
    /// The last.
    Last,
}

impl RunWeights {
    /// What is called so, unless a file is.
    pub fn named(name: &Path) -> Option<Self> {
        match name.to_str().filter(|_| !name.exists())? {
            "best" => Some(Self::Best),
            "last" => Some(Self::Last),
            _ => None,
        }
    }
}

/// A checkpoint of a run.
///
/// # Errors
/// If it has none.
pub fn checkpoint_of_run(root: &Path, which: RunWeights) -> Result<PathBuf, EngineError> {
    let folder = RunDir::inspect(root)?.checkpoints();
    let (found, word) = match which {
        RunWeights::Best => (CheckpointStore::best_in(&folder)?, "best"),
        RunWeights::Last => (CheckpointStore::newest_in(&folder), "last"),
    };
    found.filter(|path| path.is_file()).ok_or_else(|| {
        EngineError::Usage(format!(
            "{}: there is no {word} checkpoint: nothing was evaluated or saved yet, or they were removed",
            root.display()
        ))
    })
}

/// The final weights of a run.
pub fn weights_of_run(root: &Path) -> Result<PathBuf, EngineError> {
    let path = RunDir::inspect(root)?.weights();
    match path.is_file() {
        true => Ok(path),
        false => Err(EngineError::Usage(format!(
            "{}: the run is not finished, it has no final weights; finish it with `convmae run {} --out {} --resume`, or name one of \
             its checkpoints as a weights file",
            root.display(),
            root.join("recipe.lock.yaml").display(),
            root.display(),
        ))),
    }
}

/// The tensors of a file under the names of a model.
struct Source {
    path: PathBuf,
    tensors: TensorMap,
    metadata: Map<String, Json>,
    grids: SavedGrids,
    /// How they were found and came by their names.
    notes: Vec<String>,
}

impl Source {
    /// Reads a file; `parts` are the prefixes of the model's nodes, `rules` what the recipe says of names.
    fn read(
        path: &Path,
        entry: Option<&str>,
        params: &[Param],
        parts: &[&str],
        rules: &[Rule],
    ) -> Result<Self, EngineError> {
        let file = weights::read_selection(path, Selection { entry, ..Selection::default() })?;
        let mut notes = file.notes();
        let expected =
            Expected { names: params.iter().map(Param::name).collect(), prefixes: parts.to_vec(), rules };
        let (tensors, of_names) = fit(file.tensors, &expected)
            .map_err(|reason| WeightsError::Format { path: path.to_path_buf(), reason })?;
        notes.extend(of_names);
        let grids = SavedGrids::of_weights(&file.metadata);
        Ok(Self { path: path.to_path_buf(), tensors, metadata: file.metadata, grids, notes })
    }

    fn match_keys(&self, params: &[Param]) -> KeyReport {
        let expected: Vec<_> =
            params.iter().map(|param| (param.name().to_owned(), param.shape().to_vec())).collect();
        KeyReport { notes: self.notes.clone(), ..match_keys(&expected, &self.tensors) }
    }

    /// That nothing is wrong with what is set.
    fn check(&self, params: &[Param], report: &KeyReport, help: &str) -> Result<(), EngineError> {
        let path = || self.path.clone();
        if !report.is_exact() {
            let (report, help) = (Box::new(report.clone()), help.to_owned());
            return Err(EngineError::WeightsMismatch { path: path(), report, help });
        }
        for (param, tensor) in self.pairs(params, report) {
            let values = tensor.to_f32();
            let count = values.iter().filter(|value| !value.is_finite()).count();
            if count > 0 {
                let (tensor, of) = (param.name().to_owned(), values.len());
                return Err(EngineError::NotFiniteWeights { path: path(), tensor, count, of });
            }
        }
        Ok(())
    }

    /// Sets the parameters; those that take images of `channels` from a convolution of others.
    fn set(&self, params: &[Param], report: &KeyReport, channels: usize) -> Result<(), nn::Error> {
        for (param, tensor) in self.pairs(params, report) {
            let values = tensor.to_f32();
            let adaptation = ChannelAdaptation::of(&tensor.shape, param.shape(), channels);
            match (self.grids.interpolation(param, &tensor.shape), adaptation) {
                (Some(interpolation), _) => param.set(&interpolation.apply(&values))?,
                (None, Some(adaptation)) => param.set(&adaptation.apply(&values))?,
                (None, None) => param.set(&values)?,
            }
        }
        Ok(())
    }

    /// The parameters that are set, each with its tensor.
    fn pairs<'s>(
        &'s self,
        params: &'s [Param],
        report: &'s KeyReport,
    ) -> impl Iterator<Item = (&'s Param, &'s HostTensor)> {
        let new: HashSet<&str> = report.new.iter().map(String::as_str).collect();
        let old = params.iter().filter(move |param| !new.contains(param.name()));
        old.filter_map(|param| Some((param, self.tensors.get(param.name())?)))
    }
}
