//! A sweep file.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::block::{Block, Reader};
use super::claim::Claims;
use super::schema;
use super::stage::Stages;
use crate::recipe::{Diagnostics, Document, Problem};

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
        let document = Document::read(path, &schema::catalog())?;
        let (stages, mut problems) = Stages::read(document.value(), path);
        let empty = Value::Object(serde_json::Map::new());
        let block = document.value().get("sweep").unwrap_or(&empty);
        let mut reader = Reader { stages: &stages, problems: Vec::new(), keys: Vec::new() };
        let block = reader.block(block, "sweep", &Claims::default());
        let Reader { problems: found, mut keys, .. } = reader;
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

    fn text(&self, key: &str) -> &str {
        self.document.value().get(key).and_then(Value::as_str).unwrap_or_default()
    }
}
