//! A sweep file: what it may say, and what it says.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::block::Block;
use super::block_reader::{BlockReader, KeyOwners};
use super::stage::Stages;
use crate::recipe::{Catalog, Diagnostics, Document, Problem};

/// More combinations are refused: nobody means them.
const MAX_VARIANTS: u64 = 10_000;

/// A valid sweep file. That its overrides fit their recipes is known once it is expanded.
#[derive(Debug, Clone)]
pub struct Sweep {
    pub(super) document: Document,
    pub(super) stages: Stages,
    pub(super) block: Block,
}

impl Sweep {
    /// Reads a sweep file.
    ///
    /// # Errors
    /// Everything wrong with it, each with its line.
    pub fn load(path: &Path) -> Result<Self, Diagnostics> {
        let document = Document::read(path, &Catalog::of_document("sweep", schema()))?;
        let (stages, mut problems) = Stages::read(document.value(), path);
        let empty = Value::Object(serde_json::Map::new());
        let block = document.value().get("sweep").unwrap_or(&empty);
        let mut reader = BlockReader { stages: &stages, problems: Vec::new(), keys: Vec::new() };
        let block = reader.block(block, "sweep", &KeyOwners::default());
        let BlockReader { problems: found, mut keys, .. } = reader;
        problems.extend(found);
        let (unknown, impossible) = block.problems_of_conditions();
        keys.extend(unknown);
        problems.extend(impossible);
        if block.count() > MAX_VARIANTS {
            let message = format!("{} combinations, more than {MAX_VARIANTS}", block.count());
            problems.push(Problem::new("sweep", message).help("`grid` combines each value with each"));
        }
        let keys = keys.into_iter().map(|problem| document.find_key(problem));
        let findings: Vec<_> =
            keys.chain(problems.into_iter().map(|problem| document.find(problem))).collect();
        if findings.is_empty() {
            Ok(Self { document, stages, block })
        } else {
            Err(document.refuse(findings))
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.document.path()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.text("name")
    }

    /// What it is for; empty if it does not say.
    pub fn description(&self) -> &str {
        self.text("description")
    }

    /// Where its runs go if nothing else is asked for: `runs/<name>`.
    pub fn directory(&self) -> PathBuf {
        Path::new("runs").join(self.name())
    }

    /// The names of the stages, in the order of the file; none if there is one recipe.
    pub fn stages(&self) -> Vec<&str> {
        let named = self.stages.0.iter().filter(|_| self.stages.are_named());
        named.map(|stage| stage.name.as_str()).collect()
    }

    /// Whether two stages are one, or one starts from the other, if not at once.
    pub fn are_chained(&self, one: &str, other: &str) -> bool {
        let stages = &self.stages.0;
        let starts_from = |stage: &str, source: &str| {
            let at = stages.iter().position(|known| known.name == stage);
            at.is_some_and(|at| self.stages.lineage(at).any(|from| stages[from].name == source))
        };
        starts_from(one, other) || starts_from(other, one)
    }

    fn text(&self, key: &str) -> &str {
        self.document.value().get(key).and_then(Value::as_str).unwrap_or_default()
    }
}

/// The JSON schema that sweep files are checked against.
fn schema() -> Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["name"],
        "properties": {
            "name": {
                "type": "string",
                "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]*$",
                "examples": ["masking"],
                "description": "Name of the sweep; its runs go to `runs/<name>`.",
            },
            "description": { "type": "string", "description": "What it is for." },
            "recipe": { "type": "string", "description": "The recipe of all runs, relative to this file." },
            "set": { "$ref": "#/$defs/Overrides", "description": "Overrides of every run." },
            "stages": {
                "type": "object",
                "additionalProperties": { "$ref": "#/$defs/Stage" },
                "description": "A chain in the place of `recipe`: named recipes that start from one another's weights.",
            },
            "sweep": { "$ref": "#/$defs/Block", "description": "What varies." },
        },
        "$defs": {
            "Overrides": { "type": "object", "additionalProperties": true },
            "Values": {
                "type": "object",
                "additionalProperties": { "type": "array", "items": true, "minItems": 1 },
            },
            "Stage": {
                "type": "object",
                "additionalProperties": false,
                "required": ["recipe"],
                "properties": {
                    "recipe": { "type": "string", "description": "The recipe, relative to this file." },
                    "set": { "$ref": "#/$defs/Overrides" },
                    "init_from": { "type": "string", "description": "The stage whose weights it starts from." },
                },
            },
            "Block": {
                "type": "object",
                "additionalProperties": false,
                "properties": {
                    "grid": { "$ref": "#/$defs/Values", "description": "Lists of values, combined each with each." },
                    "zip": { "$ref": "#/$defs/Values", "description": "Lists of values of one length, taken in step." },
                    "list": {
                        "type": "array",
                        "items": { "$ref": "#/$defs/Item" },
                        "minItems": 1,
                        "description": "Variants, one after the other.",
                    },
                    "seeds": {
                        "anyOf": [
                            { "type": "integer", "minimum": 1, "maximum": 1000 },
                            { "type": "array", "items": { "type": "integer", "minimum": 0 }, "minItems": 1 },
                        ],
                        "description": "Seeds, or how many: `[0, 1, 2]` is `3`.",
                    },
                    "exclude": {
                        "type": "array",
                        "items": { "$ref": "#/$defs/Overrides" },
                        "description": "Combinations that are left out.",
                    },
                },
            },
            "Item": {
                "type": "object",
                "additionalProperties": false,
                "properties": {
                    "name": {
                        "type": "string",
                        "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]*$",
                        "examples": ["regular"],
                        "description": "Name of the variant.",
                    },
                    "set": { "$ref": "#/$defs/Overrides" },
                    "when": { "$ref": "#/$defs/Overrides", "description": "Only where other keys have these values, lists for one of them, or `\"> 1\"`." },
                    "sweep": { "$ref": "#/$defs/Block" },
                },
            },
        },
    })
}
