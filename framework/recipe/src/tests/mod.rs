#![allow(clippy::unwrap_used, clippy::panic, clippy::format_push_string, clippy::format_collect)]

mod defaults;
mod layers;
mod mistakes;
mod references;
mod robustness;

use std::path::Path;

use schemars::{JsonSchema, schema_for};
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Catalog, CatalogEntry, Diagnostics, Recipe, Sources, load};

/// Hybrid convolution-transformer backbone.
#[derive(JsonSchema, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct ConvViT {
    /// Width of each stage.
    embed_dim: [usize; 3],
    /// Blocks of each stage.
    depth: Vec<usize>,
    /// Attention heads of stage 3.
    #[schemars(range(min = 1))]
    num_heads: usize,
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    drop_path: f32,
    #[serde(default)]
    window: Option<usize>,
}

#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Vit {
    #[serde(default)]
    depth: usize,
}

#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct BlockMasker {
    /// Fraction of patches that are removed.
    #[schemars(range(min = 0.0, max = 1.0))]
    mask_ratio: f32,
}

#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct UperHead {
    channels: usize,
    num_classes: usize,
}

#[derive(JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(dead_code)]
enum Interpolation {
    /// Two pixels each way.
    Bicubic,
    Bilinear,
}

#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Resize {
    size: usize,
    #[serde(default = "bicubic")]
    interpolation: Interpolation,
}

fn bicubic() -> Interpolation {
    Interpolation::Bicubic
}

impl serde::Serialize for Interpolation {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("bicubic")
    }
}

#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Flip {
    #[serde(default)]
    p: f32,
}

#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct AdamW {
    lr: f64,
    #[serde(default)]
    betas: [f32; 2],
}

/// How the learning rate falls.
#[derive(JsonSchema)]
#[serde(tag = "shape", rename_all = "snake_case", deny_unknown_fields)]
#[allow(dead_code)]
enum Decay {
    Cosine { min_lr: f32 },
    Step { milestones: Vec<usize> },
}

#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Train {
    epochs: usize,
    #[serde(default)]
    amp: bool,
    #[serde(default)]
    decay: Option<Decay>,
    /// A number of steps, or `auto`.
    #[serde(default)]
    accumulation: Option<Accumulation>,
}

#[derive(JsonSchema)]
#[serde(untagged)]
#[allow(dead_code)]
enum Accumulation {
    Steps(usize),
    Named(Auto),
}

#[derive(JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(dead_code)]
enum Auto {
    Auto,
}

fn entry<T: JsonSchema>(kind: &str, name: &str) -> CatalogEntry {
    CatalogEntry { kind: kind.into(), name: name.into(), schema: schema_for!(T).to_value() }
}

fn catalog() -> Catalog {
    let train = schema_for!(Train).to_value();
    let node = json!({
        "x-component": ["masker", "backbone", "head"],
        "x-extra": {"properties": {"from": {"type": "string", "description": "The node upstream."}}}
    });
    let root = json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["model", "train"],
        "properties": {
            "name": {"type": ["string", "null"]},
            "seed": {"type": "integer", "minimum": 0},
            "root": {"type": "string"},
            "model": {"type": "object", "additionalProperties": node},
            "optimizer": {"anyOf": [{"x-component": "optimizer", "x-slot": true}, {"type": "null"}]},
            "train": {"$ref": "#/$defs/Train", "description": "The training loop."},
            "data": {
                "type": "object",
                "additionalProperties": false,
                "properties": {
                    "num_classes": {"type": "integer"},
                    "size": {"type": "integer"},
                    "transforms": {"type": "array", "items": {"x-component": "transform"}}
                }
            }
        },
        "$defs": {"Train": train, "Decay": train["$defs"]["Decay"], "Accumulation": train["$defs"]["Accumulation"],
            "Auto": train["$defs"]["Auto"]}
    });
    Catalog::new(
        vec![
            entry::<ConvViT>("backbone", "ConvViT"),
            entry::<Vit>("backbone", "Vit"),
            entry::<BlockMasker>("masker", "BlockMasker"),
            entry::<UperHead>("head", "UperHead"),
            entry::<Resize>("transform", "Resize"),
            entry::<Flip>("transform", "Flip"),
            entry::<AdamW>("optimizer", "AdamW"),
        ],
        root,
    )
}

/// A folder of recipe files.
struct Files(TempDir);

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = Self(TempDir::new().unwrap());
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        folder
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn sources(&self, recipe: &str) -> Sources {
        Sources { recipe: self.path().join(recipe), ..Sources::default() }
    }

    fn load(&self, recipe: &str, environment: &[(&str, &str)], sets: &[&str]) -> Result<Recipe, Diagnostics> {
        let mut sources = self.sources(recipe);
        sources.environment =
            environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        sources.sets = sets.iter().map(|set| (*set).to_owned()).collect();
        load(&sources, &catalog())
    }

    /// The report without the name of the temporary folder.
    fn report(&self, diagnostics: &Diagnostics) -> String {
        let folder = format!("{}/", self.path().display());
        diagnostics.render(false).replace(&folder, "")
    }
}

/// One recipe file and nothing else.
fn load_text(text: &str) -> Result<Recipe, Diagnostics> {
    Files::new(&[("recipe.yaml", text)]).load("recipe.yaml", &[], &[])
}

fn value(text: &str) -> Value {
    match load_text(text) {
        Ok(recipe) => recipe.value().clone(),
        Err(diagnostics) => panic!("{}", diagnostics.render(false)),
    }
}

const BASE: &str = "\
name: base
seed: 0
model:
  mask: { type: BlockMasker, mask_ratio: 0.75 }
  backbone:
    type: ConvViT
    embed_dim: [256, 384, 768]
    depth: [2, 2, 11]
    num_heads: 12
data:
  num_classes: 150
  transforms:
    - type: Resize
      size: 224
    - type: Flip
train:
  epochs: 1600
";
