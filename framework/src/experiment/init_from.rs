//! Where a run's initial weights come from.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use glob::Pattern;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use crate::recipe::Problem;
use crate::weights::names::Rule;

/// Weights that a run starts from: of a file (`weights`) or of another run (`run`). In a recipe just a file,
/// too.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "FileOrFields")]
pub struct InitFrom {
    weights: Option<PathBuf>,
    run: Option<PathBuf>,
    /// The entry of the file that holds the model.
    pub entry: Option<String>,
    rename: Vec<Rename>,
    /// Parameters that may be initialised, though they are not in the file or have another shape there.
    pub new: Names,
    /// Tensors of the file that may be left in it.
    pub leave: Names,
}

/// A file or a run with weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InitSource<'a> {
    /// `.safetensors`, `.pth`, a folder or an index of parts.
    File(&'a Path),
    /// The directory of a finished run.
    Run(&'a Path),
}

impl InitFrom {
    /// Where the weights are.
    ///
    /// # Errors
    /// Unless it is either a file or a run, and its names are patterns.
    pub fn source(&self) -> Result<InitSource<'_>, Problem> {
        self.new.check("new")?;
        self.leave.check("leave")?;
        self.rules()?;
        match (&self.weights, &self.run) {
            (Some(path), None) => Ok(InitSource::File(path)),
            (None, Some(path)) => Ok(InitSource::Run(path)),
            (None, None) => Err(Problem::new("init_from", "it names no weights")
                .help("say `weights: FILE`, or `run: DIR` for a finished run")),
            (Some(_), Some(_)) => Err(Problem::new("init_from", "it names a file and a run")
                .help("remove `weights` or `run`; an override removes one with `--set init_from.run=null`")),
        }
    }

    /// What tensors of the file are called here.
    ///
    /// # Errors
    /// Unless the stars of a rule's names have their counterparts.
    pub fn rules(&self) -> Result<Vec<Rule>, Problem> {
        let rule = |(at, Rename { from, to }): (usize, &Rename)| {
            Rule::new(from, to).map_err(|error| {
                Problem::new(format!("init_from.rename.{at}"), error.to_string())
                    .help("a `*` stands for anything, dots too; what follows a name, as `.weight`, is kept")
            })
        };
        self.rename.iter().enumerate().map(rule).collect()
    }
}

/// What tensors of a file are called here.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rename {
    /// A name in the file, or what names begin with up to a dot; `*` stands for anything, dots too.
    from: String,
    /// What that is here, with as many `*`.
    to: String,
}

/// Names of tensors, in which `*` stands for anything, dots too.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct Names(Vec<String>);

impl Names {
    /// Whether `name` is one of them.
    pub fn contain(&self, name: &str) -> bool {
        self.0.iter().any(|pattern| Pattern::new(pattern).is_ok_and(|pattern| pattern.matches(name)))
    }

    fn check(&self, key: &str) -> Result<(), Problem> {
        self.0.iter().enumerate().try_for_each(|(at, pattern)| match Pattern::new(pattern) {
            Ok(_) => Ok(()),
            Err(error) => {
                let message = format!("`{pattern}` is no pattern: {}", error.msg);
                Err(Problem::new(format!("init_from.{key}.{at}"), message)
                    .help("one `*` stands for anything, dots too"))
            }
        })
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum FileOrFields {
    File(PathBuf),
    Fields(Fields),
}

/// Weights of a file or a run.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Fields {
    /// Weights: `.safetensors`, a `.pth` of `PyTorch`, a `.pkl` of detectron2; of weights in parts the index, or
    /// their folder. Names of `ViTMAE` in transformers, mmpretrain and timm are translated, prefixes of wrapping
    /// modules (`module.`, `_orig_mod.`) and others that all names share are taken off.
    #[serde(default)]
    weights: Option<PathBuf>,
    /// The directory of a finished run, such as `runs/convmae_base`.
    #[serde(default)]
    run: Option<PathBuf>,
    /// The entry of the file that holds the model, as `teacher`, `model_ema` or `state_dict.encoder`, or what its
    /// names begin with; `model`, `state_dict` or `module`, or the only one, if left out. Of a checkpoint of
    /// this program `model`, or `ema`, its moving averages, which are preferred.
    #[serde(default)]
    entry: Option<String>,
    /// Rules that rename tensors of the file, as `{ from: layers.*.ln1, to: blocks.*.norm1 }`, which makes
    /// `blocks.0.norm1.weight` of `layers.0.ln1.weight`; of several that fit a name the first counts.
    #[serde(default)]
    rename: Vec<Rename>,
    /// Parameters that may be initialised, though they are not there or have another shape: names, in which
    /// `*` stands for anything, as in `blocks3.*.gamma_1`. Those of heads may be missing in any case.
    #[serde(default)]
    new: Names,
    /// Tensors that may be left: names, in which `*` stands for anything, as in `decoder_*`.
    #[serde(default)]
    leave: Names,
}

impl From<FileOrFields> for InitFrom {
    fn from(from: FileOrFields) -> Self {
        match from {
            FileOrFields::File(path) => Self { weights: Some(path), ..Self::default() },
            FileOrFields::Fields(Fields { weights, run, entry, rename, new, leave }) => {
                Self { weights, run, entry, rename, new, leave }
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
                Fields::json_schema(generator),
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
        assert_eq!(read(json!("a.pth")).source(), Ok(InitSource::File("a.pth".as_ref())));
        assert_eq!(read(json!({ "run": "runs/a" })).source(), Ok(InitSource::Run("runs/a".as_ref())));
        let read = read(json!({ "weights": "a.pth", "leave": ["decoder_*", "mask_token"] }));
        let left: Vec<bool> =
            ["decoder_pred.bias", "mask_token", "mask_token2"].map(|name| read.leave.contain(name)).into();
        assert_eq!(left, [true, true, false]);
        assert!(!read.new.contain("head.weight"));
    }

    #[test]
    fn a_star_stands_for_anything_anywhere() {
        let fits = |pattern: &str, names: [&str; 3]| {
            let pattern = Names(vec![pattern.to_owned()]);
            names.map(|name| pattern.contain(name))
        };
        let names = ["blocks3.0.gamma_1", "blocks3.10.gamma_2", "blocks1.0.gamma_1"];
        assert_eq!(fits("blocks3.*.gamma_1", names), [true, false, false]);
        assert_eq!(fits("blocks3.*.gamma_*", names), [true, true, false]);
        assert_eq!(fits("*", names), [true; 3]);
        assert_eq!(fits("*.0.*_1", names), [true, false, true]);
        // What stands before and behind a star does not overlap.
        assert_eq!(fits("ab*ba", ["aba", "abba", "abxba"]), [false, true, true]);
        assert_eq!(fits("a*b*b", ["ab", "abb", "aXbYb"]), [false, true, true]);
    }

    #[test]
    fn a_file_and_a_run_or_neither_is_a_problem() {
        let read = |value| serde_json::from_value::<InitFrom>(value).unwrap();
        assert!(
            read(json!({ "run": "a", "weights": "b" })).source().unwrap_err().message.contains("and a run")
        );
        assert!(read(json!({ "leave": ["norm.*"] })).source().is_err());
    }

    #[test]
    fn a_rule_whose_stars_have_no_counterparts_is_a_problem() {
        let rename = json!([{ "from": "a.*", "to": "*" }, { "from": "a.*.b", "to": "c" }]);
        let from: InitFrom = serde_json::from_value(json!({ "run": "a", "rename": rename })).unwrap();
        assert_eq!(from.source().unwrap_err().key, "init_from.rename.1");
    }

    #[test]
    fn a_name_that_is_no_pattern_is_a_problem() {
        let from: InitFrom = serde_json::from_value(json!({ "run": "a", "new": ["x", "a**b"] })).unwrap();
        assert_eq!(from.source().unwrap_err().key, "init_from.new.1");
    }
}
