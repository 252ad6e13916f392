//! Parameters from weights: of a file, or of a run.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json};

use crate::experiment::{InitFrom, InitSource};
use crate::graph::Model;
use crate::nn::Param;
use crate::recipe::Recipe;
use crate::report::RunDir;
use crate::weights::{self, HostTensor, KeyReport, TensorMap, match_keys};

use super::EngineError;
use super::image_channels::ChannelAdaptation;
use super::position_grids::SavedGrids;

/// Loads a weights file into parameters. Every name must be in both, with the same shape. Of a checkpoint
/// with moving averages these are loaded: they are what training evaluates. Returns what the file holds
/// besides.
pub fn load_weights(params: &[Param], path: &Path) -> Result<Map<String, Json>, EngineError> {
    let (tensors, metadata) = evaluated(path)?;
    let report = match_keys(&expected(params), &tensors);
    let help = "every tensor of the file and every parameter of the model must be in both";
    take(params, path, &tensors, &SavedGrids::default(), 0, report, help)?;
    Ok(metadata)
}

/// Loads the weights that a recipe starts from, as far as it wants them, and tells what came of it.
pub fn initialize(recipe: &Recipe, model: &Model, from: &InitFrom) -> Result<(), EngineError> {
    let source = from.source().map_err(|problem| recipe.diagnose(vec![problem]))?;
    let path = weights_file(source)?;
    let params = model.params();
    let (tensors, metadata) = evaluated(&path)?;
    let grids = SavedGrids::of_weights(&metadata);
    let tensors = within_prefixes(tensors, &params, &model.prefixes());
    let mut report = match_keys(&expected(&params), &tensors);
    report.interpolate(|pair| {
        let param = params.iter().find(|param| param.name() == pair.name);
        param.is_some_and(|param| grids.interpolation(param, &pair.file).is_some())
    });
    let channels = model.image.channels;
    report.adapt(|pair| ChannelAdaptation::of(&pair.file, &pair.expected, channels).is_some());
    let heads: HashSet<String> = model.head_params().iter().map(|param| param.name().to_owned()).collect();
    let in_file: HashSet<&str> = tensors.names().collect();
    let is_new = |name: &str| from.new.contain(name) || heads.contains(name) && !in_file.contains(name);
    report.allow(is_new, |name| from.leave.contain(name));
    let help = "name what may start anew under `init_from.new`, and what may be left in the file under `init_from.leave`: \
                names, in which `*` stands for anything, as in `decoder_*`";
    let report = take(&params, &path, &tensors, &grids, channels, report, help)?;
    tracing::info!("weights of {}: {report}", path.display());
    Ok(())
}

/// The tensors under the names of a model whose nodes have prefixes: those of a backbone alone (`blocks1.*`)
/// fit a backbone within a segmentor (`backbone.blocks1.*`), unless the file holds such a one.
fn within_prefixes(tensors: TensorMap, params: &[Param], prefixes: &[&str]) -> TensorMap {
    let names: HashSet<&str> = params.iter().map(Param::name).collect();
    let is_absent = |prefix: &&&str| !tensors.names().any(|name| name.starts_with(&format!("{prefix}.")));
    let absent: Vec<&str> = prefixes.iter().filter(is_absent).copied().collect();
    let rename = |(name, tensor): (String, HostTensor)| {
        let within = absent.iter().map(|prefix| format!("{prefix}.{name}"));
        let known = within.into_iter().find(|within| names.contains(within.as_str()));
        (known.unwrap_or(name), tensor)
    };
    tensors.into_iter().map(rename).collect()
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

/// The tensors of a file that training would evaluate, and its metadata.
fn evaluated(path: &Path) -> Result<(TensorMap, Map<String, Json>), EngineError> {
    let file = weights::read(path)?;
    Ok((file.ema.unwrap_or(file.tensors), file.metadata))
}

fn expected(params: &[Param]) -> Vec<(String, Vec<usize>)> {
    params.iter().map(|param| (param.name().to_owned(), param.shape().to_vec())).collect()
}

/// Sets the parameters, if nothing is wrong; those that take images of `channels` from a convolution of
/// others.
fn take(
    params: &[Param],
    path: &Path,
    tensors: &TensorMap,
    grids: &SavedGrids,
    channels: usize,
    report: KeyReport,
    help: &'static str,
) -> Result<KeyReport, EngineError> {
    if !report.is_exact() {
        return Err(EngineError::WeightsMismatch {
            path: path.to_path_buf(),
            report: Box::new(report),
            help,
        });
    }
    let new: HashSet<&str> = report.new.iter().map(String::as_str).collect();
    for param in params.iter().filter(|param| !new.contains(param.name())) {
        let Some(tensor) = tensors.get(param.name()) else { continue };
        let values = tensor.to_f32();
        let adaptation = ChannelAdaptation::of(&tensor.shape, param.shape(), channels);
        match (grids.interpolation(param, &tensor.shape), adaptation) {
            (Some(interpolation), _) => param.set(&interpolation.apply(&values))?,
            (None, Some(adaptation)) => param.set(&adaptation.apply(&values))?,
            (None, None) => param.set(&values)?,
        }
    }
    Ok(report)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::nn::{Init, Scope};

    #[test]
    fn the_tensors_of_a_backbone_alone_fit_one_with_a_prefix() {
        let scope = Scope::describe();
        for name in ["backbone.conv", "backbone.norm", "head.conv"] {
            scope.param(name, &[1], &Init::ZEROS);
        }
        let names = |file: &[&str]| {
            let tensor = HostTensor::from_f32(vec![1], &[0.0]).unwrap();
            let file = file.iter().map(|name| (*name, tensor.clone())).collect();
            let tensors = within_prefixes(file, &scope.params(), &["backbone", "head"]);
            tensors.names().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(names(&["conv", "decoder"]), ["backbone.conv", "decoder"]);
        // A file with prefixes is taken as it is.
        assert_eq!(names(&["backbone.conv", "head.conv", "norm"]), ["backbone.conv", "head.conv", "norm"]);
    }
}
