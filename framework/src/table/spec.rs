//! The schema of a table file.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// A table: its columns, and its rows of recipes, sweeps, and figures of papers.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TableSpec {
    /// What stands above the table.
    pub title: String,
    /// What the table shows, and how.
    #[serde(default)]
    pub description: String,
    /// The columns, from left to right.
    #[schemars(length(min = 1))]
    pub columns: Vec<ColumnSpec>,
    /// The rows, from top to bottom.
    pub rows: Vec<RowSpec>,
    /// The label of the row that columns `paired.COLUMN` compare the others with.
    #[serde(default)]
    pub baseline: Option<String>,
}

/// A column.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ColumnSpec {
    /// What stands at its top.
    #[schemars(length(min = 1))]
    pub name: String,
    /// Where its values come from: `label`; `parameters` and `gmacs`, computed from the model without
    /// training; `hours`, what the training of the row's runs takes on this machine, once `bench` has timed
    /// their steps or they are finished; `recipe.KEY`, a value of the recipe; `difference.COLUMN`, our figure in
    /// another column minus the paper's; `paired.COLUMN`, our figure minus that of the row `baseline`, seed by
    /// seed; or, once there are runs, a column of `convmae runs` such as `metrics.top1` or `seconds`.
    #[schemars(extend("examples" = ["metrics.top1"]))]
    pub from: String,
    /// The stage of a row that it is about (`pretrain`, `finetune`); the last one of a row if left out, of `hours`
    /// all of them.
    #[serde(default)]
    pub stage: Option<String>,
    /// What values are multiplied by: `1e-6` for millions.
    #[serde(default)]
    pub scale: Option<f64>,
    /// Digits behind the point; four significant ones if left out. A length such as `100 epochs` is then
    /// shown as its number.
    #[serde(default)]
    #[schemars(range(max = 12))]
    pub digits: Option<usize>,
    /// Which value is the best one, and printed in bold.
    #[serde(default)]
    pub best: Option<Best>,
}

/// Which value of a column is the best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Best {
    /// The largest.
    Max,
    /// The smallest.
    Min,
}

/// A row: the runs of a recipe, of a chain of recipes, or of a part of a sweep; or only figures of a paper.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RowSpec {
    /// What stands in the columns `from: label`.
    pub label: String,
    /// The recipe whose run it shows, relative to this file.
    #[serde(default)]
    pub recipe: Option<PathBuf>,
    /// Overrides of the recipe, `optimizer.lr: 1e-3`.
    #[serde(default)]
    pub set: Map<String, Value>,
    /// The run directories, relative to the working directory; patterns such as `runs/few_labels/finetune_*`
    /// are allowed. `runs/<name of the recipe>` if left out. Over several runs of one recipe the mean is
    /// shown.
    #[serde(default)]
    pub run: Paths,
    /// A chain in the place of `recipe`: named recipes, in the order in which they are run.
    #[serde(default)]
    pub stages: Stages,
    /// The sweep whose runs it shows, relative to this file.
    #[serde(default)]
    pub sweep: Option<PathBuf>,
    /// With `sweep`, the stage whose runs it shows, the last one if left out; with `recipe`, the stage that
    /// this recipe is.
    #[serde(default)]
    pub stage: Option<String>,
    /// Only runs of the sweep with these values: `{ pretrain.model.mask.type: RandomMasker }`, keys as in the
    /// sweep; a list for one of them, or an operator, as in `"> 1"`.
    #[serde(default, rename = "where")]
    pub conditions: Map<String, Value>,
    /// Figures of a paper by the names of their columns, and their source.
    #[serde(default)]
    pub quoted: Option<Quoted>,
    /// Why there are no runs of this row yet.
    #[serde(default)]
    pub unavailable: Option<String>,
    /// What is to be said of the row below the table.
    #[serde(default)]
    pub note: Option<String>,
}

/// Figures that a paper states.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct Quoted {
    /// Where they are stated, as exactly as a reader needs to find them.
    #[schemars(length(min = 1))]
    pub source: String,
    /// By the names of the columns, in the units of the columns.
    #[serde(flatten)]
    pub figures: BTreeMap<String, f64>,
}

/// One path or several.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Paths {
    /// None.
    #[default]
    #[serde(skip)]
    None,
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

/// Whether a path is a pattern.
pub fn is_pattern(path: &str) -> bool {
    path.contains(['*', '?', '['])
}

impl Paths {
    /// Whether it stands for several runs, however many there are now: a pattern, or a list.
    pub fn is_several(&self) -> bool {
        match self {
            Self::None => false,
            Self::One(path) => is_pattern(path),
            Self::Many(_) => true,
        }
    }

    /// The paths.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let slice = match self {
            Self::None => &[],
            Self::One(path) => std::slice::from_ref(path),
            Self::Many(paths) => paths.as_slice(),
        };
        slice.iter().map(String::as_str)
    }
}

/// Named stages, in the order of the file.
#[derive(Debug, Clone, Default, JsonSchema)]
pub struct Stages(#[schemars(with = "BTreeMap<String, StageSpec>")] pub Vec<(String, StageSpec)>);

impl<'de> Deserialize<'de> for Stages {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let map: Map<String, Value> = Map::deserialize(deserializer)?;
        let stage = |(name, value)| StageSpec::deserialize(value).map(|stage| (name, stage));
        let stages = map.into_iter().map(stage).collect::<Result<_, _>>();
        stages.map(Self).map_err(serde::de::Error::custom)
    }
}

/// A stage of a row: the path of its recipe, or that and more.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum StageSpec {
    /// The recipe.
    Recipe(PathBuf),
    /// The recipe, and how it is run.
    Fields(StageFields),
}

/// A stage of a row.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StageFields {
    /// The recipe, relative to this file.
    pub recipe: PathBuf,
    /// Overrides of the recipe.
    #[serde(default)]
    pub set: Map<String, Value>,
    /// The run directories; `runs/<name of the recipe>` if left out.
    #[serde(default)]
    pub run: Paths,
}

impl ColumnSpec {
    /// The name of the column whose differences from a paper it shows.
    pub fn difference_of(&self) -> Option<&str> {
        self.from.strip_prefix("difference.")
    }

    /// The name of the column in which it compares a row with the baseline.
    pub fn paired_of(&self) -> Option<&str> {
        self.from.strip_prefix("paired.")
    }

    /// Whether it tells how long runs take.
    pub fn is_hours(&self) -> bool {
        self.from == "hours"
    }
}

impl StageSpec {
    /// The recipe, its overrides and its run directories.
    pub fn parts(&self) -> (&PathBuf, Map<String, Value>, Paths) {
        match self {
            Self::Recipe(recipe) => (recipe, Map::new(), Paths::None),
            Self::Fields(StageFields { recipe, set, run }) => (recipe, set.clone(), run.clone()),
        }
    }
}
