//! Where a run's initial weights come from.

use std::borrow::Cow;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

/// Weights that a run starts from. In a recipe a file, or a mapping that also says what need not fit.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(from = "FileOrFields")]
pub struct InitFrom {
    /// Where they are.
    pub source: InitSource,
    /// Parameters that may start anew, though they are not in the file or have another shape there.
    pub new: Names,
    /// Tensors of the file that may be left in it.
    pub leave: Names,
}

/// A file or a run with weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InitSource {
    /// `.safetensors` or `.pth`.
    File(PathBuf),
    /// The directory of a finished run.
    Run(PathBuf),
}

/// Names of tensors; one that ends in `*` stands for all that begin so.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct Names(Vec<String>);

impl Names {
    /// Whether `name` is one of them.
    pub fn contain(&self, name: &str) -> bool {
        self.0.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => name == pattern,
        })
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum FileOrFields {
    File(PathBuf),
    FileFields(FileFields),
    RunFields(RunFields),
}

/// Weights of a file.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FileFields {
    /// A weights file: `.safetensors`, or a `.pth` of `PyTorch`.
    weights: PathBuf,
    /// Parameters that may start anew, though they are not in the file or have another shape there: names, or beginnings of names
    /// as `blocks3.10.*`. Those of heads may be missing in any case.
    #[serde(default)]
    new: Names,
    /// Tensors of the file that may be left in it: names, or beginnings of names as `decoder_*`.
    #[serde(default)]
    leave: Names,
}

/// Weights of a run.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RunFields {
    /// The directory of a finished run, such as `runs/convmae_base`.
    run: PathBuf,
    /// Parameters that may start anew, though they are not in the run's weights or have another shape there: names, or beginnings of
    /// names as `blocks3.10.*`. Those of heads may be missing in any case.
    #[serde(default)]
    new: Names,
    /// Tensors of the run that may be left: names, or beginnings of names as `decoder_*`.
    #[serde(default)]
    leave: Names,
}

impl From<FileOrFields> for InitFrom {
    fn from(fields: FileOrFields) -> Self {
        match fields {
            FileOrFields::File(path) => {
                Self { source: InitSource::File(path), new: Names::default(), leave: Names::default() }
            }
            FileOrFields::FileFields(FileFields { weights, new, leave }) => {
                Self { source: InitSource::File(weights), new, leave }
            }
            FileOrFields::RunFields(RunFields { run, new, leave }) => {
                Self { source: InitSource::Run(run), new, leave }
            }
        }
    }
}

impl JsonSchema for InitFrom {
    fn schema_name() -> Cow<'static, str> {
        "InitFrom".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "type": "string" },
                FileFields::json_schema(generator),
                RunFields::json_schema(generator),
            ]
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn a_file_a_mapping_and_a_run_are_understood() {
        let read = |value| serde_json::from_value::<InitFrom>(value).unwrap();
        assert_eq!(read(json!("a.pth")).source, InitSource::File("a.pth".into()));
        assert_eq!(read(json!({ "run": "runs/a" })).source, InitSource::Run("runs/a".into()));
        let read = read(json!({ "weights": "a.pth", "leave": ["decoder_*", "mask_token"] }));
        let left: Vec<bool> =
            ["decoder_pred.bias", "mask_token", "mask_token2"].map(|name| read.leave.contain(name)).into();
        assert_eq!(left, [true, true, false]);
        assert!(!read.new.contain("head.weight"));
    }
}
