//! Parameters from weights: of a file, or of a run.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json};

use crate::experiment::{InitFrom, InitSource};
use crate::graph::Model;
use crate::nn::Param;
use crate::recipe::Recipe;
use crate::report::RunDir;
use crate::weights::names::{Expected, Rule, fit};
use crate::weights::{self, KeyReport, Selection, TensorMap, WeightsError, match_keys};

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
    let help = "every tensor of the file and every parameter of the model must be in both";
    let report = source.match_keys(params);
    let has_notes = !report.notes.is_empty();
    let report = source.take(params, report, 0, help)?;
    if has_notes {
        tracing::info!("weights of {}: {report}", path.display());
    }
    Ok(source.metadata)
}

/// Loads what a part of a model needs of a weights file, as [`load_weights`] does for a whole one.
pub fn load_part(params: &[Param], path: &Path, entry: Option<&str>) -> Result<(), EngineError> {
    let source = Source::read(path, entry, params, &[], &[])?;
    let mut report = source.match_keys(params);
    report.allow(|_| false, |_| true);
    source.take(params, report, 0, "every parameter of the backbone and the necks must be in the file")?;
    Ok(())
}

/// Loads the weights that a recipe starts from, as far as it wants them, and tells what came of it.
pub fn initialize(recipe: &Recipe, model: &Model, from: &InitFrom) -> Result<(), EngineError> {
    let at = |problem| recipe.diagnose(vec![problem]);
    let path = weights_file(from.source().map_err(at)?)?;
    let rules = from.rules().map_err(at)?;
    let params = model.params();
    let source = Source::read(&path, from.entry.as_deref(), &params, &model.prefixes(), &rules)?;
    let mut report = source.match_keys(&params);
    report.interpolate(|pair| {
        let param = params.iter().find(|param| param.name() == pair.name);
        param.is_some_and(|param| source.grids.interpolation(param, &pair.file).is_some())
    });
    let channels = model.image.channels;
    report.adapt(|pair| ChannelAdaptation::of(&pair.file, &pair.expected, channels).is_some());
    let heads: HashSet<String> = model.head_params().iter().map(|param| param.name().to_owned()).collect();
    let in_file: HashSet<&str> = source.tensors.names().collect();
    let is_new = |name: &str| from.new.contain(name) || heads.contains(name) && !in_file.contains(name);
    report.allow(is_new, |name| from.leave.contain(name));
    let help = "name what may start anew under `init_from.new`, and what may be left in the file under `init_from.leave`: \
                names, in which `*` stands for anything, as in `decoder_*`; tensors of other names are renamed by \
                `init_from.rename`";
    let report = source.take(&params, report, channels, help)?;
    tracing::info!("weights of {}: {report}", path.display());
    Ok(())
}

/// The weights file of a source.
fn weights_file(source: InitSource<'_>) -> Result<PathBuf, EngineError> {
    match source {
        InitSource::File(path) => Ok(path.to_path_buf()),
        InitSource::Run(root) => weights_of_run(root),
    }
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
struct Source<'a> {
    path: &'a Path,
    tensors: TensorMap,
    metadata: Map<String, Json>,
    grids: SavedGrids,
    /// How they were found and came by their names.
    notes: Vec<String>,
}

impl<'a> Source<'a> {
    /// Reads a file; `parts` are the prefixes of the model's nodes, `rules` what the recipe says of names.
    fn read(
        path: &'a Path,
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
        Ok(Self { path, tensors, metadata: file.metadata, grids, notes })
    }

    fn match_keys(&self, params: &[Param]) -> KeyReport {
        let expected: Vec<_> =
            params.iter().map(|param| (param.name().to_owned(), param.shape().to_vec())).collect();
        KeyReport { notes: self.notes.clone(), ..match_keys(&expected, &self.tensors) }
    }

    /// Sets the parameters, if nothing is wrong; those that take images of `channels` from a convolution of
    /// others.
    fn take(
        &self,
        params: &[Param],
        report: KeyReport,
        channels: usize,
        help: &'static str,
    ) -> Result<KeyReport, EngineError> {
        let path = || self.path.to_path_buf();
        if !report.is_exact() {
            return Err(EngineError::WeightsMismatch { path: path(), report: Box::new(report), help });
        }
        let new: HashSet<&str> = report.new.iter().map(String::as_str).collect();
        for param in params.iter().filter(|param| !new.contains(param.name())) {
            let Some(tensor) = self.tensors.get(param.name()) else { continue };
            let values = tensor.to_f32();
            let count = values.iter().filter(|value| !value.is_finite()).count();
            if count > 0 {
                let (tensor, of) = (param.name().to_owned(), values.len());
                return Err(EngineError::NotFiniteWeights { path: path(), tensor, count, of });
            }
            let adaptation = ChannelAdaptation::of(&tensor.shape, param.shape(), channels);
            match (self.grids.interpolation(param, &tensor.shape), adaptation) {
                (Some(interpolation), _) => param.set(&interpolation.apply(&values))?,
                (None, Some(adaptation)) => param.set(&adaptation.apply(&values))?,
                (None, None) => param.set(&values)?,
            }
        }
        Ok(report)
    }
}
