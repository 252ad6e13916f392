//! Weights in several files with an index, as `save_pretrained` of transformers writes large models.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::error::{FormatError, WeightsError};
use super::file::WeightsFile;
use super::map::TensorMap;

/// Bytes of an index: one of a hundred thousand tensors has ten million.
const MAX_INDEX: u64 = 100_000_000;

/// What a folder's weights are called, the best first: names of the Hugging Face hub, and of runs.
const USUAL: [&str; 4] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
];

#[derive(Deserialize)]
struct Index {
    /// The file of each tensor.
    weight_map: BTreeMap<String, String>,
}

/// The weights in a folder.
pub(super) fn file_of_folder(folder: &Path) -> Result<PathBuf, WeightsError> {
    if let Some(usual) = USUAL.map(|name| folder.join(name)).into_iter().find(|path| path.is_file()) {
        return Ok(usual);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(WeightsError::io("list", folder))? {
        let path = entry.map_err(WeightsError::io("list", folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_weights = [".safetensors", ".pth", ".pt", ".bin", ".pkl", ".index.json"]
            .iter()
            .any(|end| name.ends_with(end));
        if is_weights && path.is_file() {
            files.push(path);
        }
    }
    let indices: Vec<_> =
        files.iter().filter(|path| path.extension().is_some_and(|end| end == "json")).collect();
    match (indices.as_slice(), files.as_slice()) {
        ([only], _) => Ok((*only).clone()),
        (_, [only]) => Ok(only.clone()),
        (_, several) => {
            let found = match several.len() {
                0 => "no weights".to_owned(),
                count => format!("{count} weights files"),
            };
            Err(WeightsError::format(folder, FormatError::Folder { found }))
        }
    }
}

/// Reads all tensors that the index at `path` names.
pub(super) fn read(path: &Path) -> Result<WeightsFile, WeightsError> {
    let refuse = |reason| WeightsError::format(path, reason);
    let len = fs::metadata(path).map_err(WeightsError::io("read", path))?.len();
    if len > MAX_INDEX {
        return Err(refuse(FormatError::Index(format!("{len} bytes, {MAX_INDEX} are possible"))));
    }
    let text = fs::read(path).map_err(WeightsError::io("read", path))?;
    let Index { weight_map } =
        serde_json::from_slice(&text).map_err(|error| refuse(FormatError::Index(error.to_string())))?;
    let mut tensors_of: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (tensor, part) in &weight_map {
        tensors_of.entry(part).or_default().push(tensor);
    }
    let parts =
        tensors_of.keys().map(|part| beside(path, part)).collect::<Result<Vec<_>, _>>().map_err(refuse)?;
    let mut tensors = TensorMap::new();
    for (part, (name, wanted)) in parts.iter().zip(&tensors_of) {
        let mut found: BTreeMap<String, _> = super::read_part(part)?.tensors.into_iter().collect();
        for &tensor in wanted {
            let value = found.remove(tensor).ok_or_else(|| {
                refuse(FormatError::Index(format!("it says that `{tensor}` is in {name}, where it is not")))
            })?;
            tensors.insert(tensor, value);
        }
    }
    Ok(WeightsFile::of(tensors))
}

/// The path of a part, which is a file beside the index.
fn beside(index: &Path, part: &str) -> Result<PathBuf, FormatError> {
    let is_name = Path::new(part).file_name().is_some_and(|name| name == part);
    if !is_name {
        return Err(FormatError::Index(format!("`{part}` is no file name")));
    }
    let path = index.with_file_name(part);
    match path.is_file() {
        true => Ok(path),
        false => Err(FormatError::MissingPart { part: part.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::{HostTensor, write_pth, write_safetensors};

    /// A folder with an index and the parts that it names.
    fn write_parts(folder: &Path, index: &str) {
        for (name, value) in [("a", 1), ("b", 2)] {
            let tensors = [(name, HostTensor::scalar_i64(value))].into_iter().collect();
            let path = folder.join(format!("model-{name}.safetensors"));
            write_safetensors(&path, &tensors, &BTreeMap::new()).unwrap();
        }
        fs::write(folder.join("model.safetensors.index.json"), index).unwrap();
    }

    const INDEX: &str =
        r#"{"metadata": {}, "weight_map": {"a": "model-a.safetensors", "b": "model-b.safetensors"}}"#;

    #[test]
    fn weights_in_parts_are_read_by_their_index_or_their_folder() {
        let folder = tempfile::tempdir().unwrap();
        write_parts(folder.path(), INDEX);
        for path in [folder.path().to_path_buf(), folder.path().join("model.safetensors.index.json")] {
            let tensors = crate::read(&path).unwrap().tensors;
            assert_eq!(
                tensors.iter().map(|(name, tensor)| (name, tensor.as_i64())).collect::<Vec<_>>(),
                [("a", Some(1)), ("b", Some(2))]
            );
        }
        fs::remove_file(folder.path().join("model-b.safetensors")).unwrap();
        let error = crate::read(folder.path()).unwrap_err().to_string();
        assert!(
            error.ends_with(
                "model.safetensors.index.json: its part model-b.safetensors is missing; download that, too"
            ),
            "{error}"
        );
    }

    #[test]
    fn an_index_that_does_not_fit_its_parts_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for (index, expected) in [
            (
                INDEX.replace("\"b\":", "\"c\":"),
                "it says that `c` is in model-b.safetensors, where it is not",
            ),
            (INDEX.replace("model-b", "../model-b"), "`../model-b.safetensors` is no file name"),
            (INDEX.replace("model-b.safetensors", ".."), "`..` is no file name"),
            (
                INDEX.replace("model-b.safetensors", "model.safetensors.index.json"),
                "a part of weights is an index, too",
            ),
            ("{\"weight_map\": [1]}".to_owned(), "not a valid index of weights in parts"),
        ] {
            write_parts(folder.path(), &index);
            let error = crate::read(folder.path()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn of_a_folder_the_only_weights_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let error = |folder: &Path| crate::read(folder).unwrap_err().to_string();
        assert!(error(folder.path()).ends_with("a folder with no weights; name the file"));
        let tensors = [("a", HostTensor::scalar_i64(1))].into_iter().collect();
        write_pth(&folder.path().join("a.pth"), &tensors).unwrap();
        fs::write(folder.path().join("config.json"), "{}").unwrap();
        assert!(!crate::read(folder.path()).unwrap().tensors.is_empty());
        fs::write(folder.path().join("b.pth"), "").unwrap();
        assert!(error(folder.path()).ends_with("a folder with 2 weights files; name the file"));
    }
}
