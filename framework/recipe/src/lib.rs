//! Recipes: layers, references, provenance, diagnostics. Knows no tensors.
//!
//! A recipe is YAML. Its layers, lowest first: the files it names under `extends`, the file itself,
//! environment variables (`CONVMAE_TRAIN__LENGTH='40 epochs'`), `--set train.length='40 epochs'`, and arguments of their own
//! (`--seed 3`).
//! Mappings merge, lists are replaced, and a layer that changes the `type` of a block replaces the block.
//! Then references such as `${train.length}` and `${env:DATA}` are resolved (see `reference.rs` for their
//! rules), the value is checked against the [`Catalog`], and the defaults of keys that it leaves out are
//! filled in. [`load`] reports everything wrong at once, each problem with its file, line and column; [`Recipe::diagnose`] gives
//! later checks the same power.
//!
//! Words mean what YAML 1.2 says: `1.5e-4` and `1e-6` are numbers, `yes` and `on` are strings. An integer is
//! written without point and exponent: `1600`, not `1.6e3`. An empty value is null.

mod assignment;
mod catalog;
mod diagnostics;
mod diff;
mod document;
mod files;
mod layer;
pub mod lock;
mod mend;
mod merge;
mod node;
mod path;
mod provenance;
mod reference;
mod scalar;
mod schema;
mod suggest;
#[cfg(test)]
mod tests;
mod yaml;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::Value;

pub use catalog::{Catalog, CatalogEntry};
pub use diagnostics::{Diagnostics, Finding, Problem};
pub use diff::{Change, Difference, diff, differences};
pub use document::Document;
pub use files::clean;
pub use layer::LayerKind;
pub use path::{is_within, leaves, short_key, without};
pub use provenance::Origin;
pub use scalar::plain as plain_scalar;
pub use schema::{article, first_sentence};
pub use suggest::{list, nearest, nearest_path};
pub use yaml::inline_value;

use diagnostics::Fault;
use files::Layers;
use provenance::Provenance;
use reference::Resolved;

/// The variable of this program that sets no key of a recipe, though it begins as those do: what is logged.
pub const OWN_VARIABLE: &str = "CONVMAE_LOG";

/// What a recipe is loaded from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    /// The recipe file.
    pub recipe: PathBuf,
    /// `--set` arguments, `key=value`; the value is YAML, list items go by index
    /// (`data.transforms.0.size=64`).
    pub sets: Vec<String>,
    /// Arguments that are called as the key they set, without the dashes, and their values: `seed`, `3`.
    pub flags: Vec<(&'static str, String)>,
    /// Environment variables, name and value; those without the prefix `CONVMAE_` are ignored.
    pub environment: Vec<(String, String)>,
}

impl Sources {
    /// A recipe file with the environment of this process.
    pub fn from_env(recipe: impl Into<PathBuf>) -> Self {
        let variables = std::env::vars_os()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
            .filter(|(name, _)| name.starts_with(assignment::PREFIX) && name != OWN_VARIABLE);
        Self { recipe: recipe.into(), environment: variables.collect(), ..Self::default() }
    }
}

/// A merged and resolved recipe, with its defaults; a valid one, unless it was only [`read`].
#[derive(Debug, Clone)]
pub struct Recipe {
    path: PathBuf,
    value: Value,
    provenance: Provenance,
    mistakes: Vec<Finding>,
    /// Keys of which nothing can be said for mistakes.
    unsound: Vec<String>,
}

/// Loads a recipe and checks it.
///
/// # Errors
/// Everything wrong with the recipe. When a layer cannot be read or parsed, only that: the rest would be
/// blamed wrongly.
pub fn load(sources: &Sources, catalog: &Catalog) -> Result<Recipe, Diagnostics> {
    let recipe = read(sources, catalog)?;
    if recipe.is_valid() { Ok(recipe) } else { Err(recipe.diagnose(Vec::new())) }
}

/// Loads a recipe that may have mistakes: what it says elsewhere can be checked all the same.
///
/// # Errors
/// A layer that cannot be read or parsed.
pub fn read(sources: &Sources, catalog: &Catalog) -> Result<Recipe, Diagnostics> {
    let mut read = Layers::default();
    read.read(&sources.recipe);
    read.environment(&sources.environment);
    read.set(&sources.sets);
    read.flags(&sources.flags);
    let Layers { stack: mut layers, mut findings, broken, incomplete } = read;
    let refuse = |findings| Diagnostics { recipe: sources.recipe.display().to_string(), findings };
    if incomplete {
        return Err(refuse(findings));
    }
    let mut merged = match merge::merge(&mut layers) {
        Ok(merged) => merged,
        Err(error) => return Err(refuse(vec![unmergeable(&error)])),
    };
    let misfits = std::mem::take(&mut merged.misfits);
    let (mut provenance, merged) = Provenance::new(layers, merged);
    findings.extend(misfits.into_iter().map(|(layer, fault)| provenance.locate_in(layer, fault)));
    let Resolved { mut value, faults, broken: unresolved } =
        reference::resolve(&merged, &|name| std::env::var(name).ok());
    let broken: HashSet<_> = unresolved.into_iter().chain(broken).collect();
    findings.extend(faults.into_iter().map(|fault| provenance.locate(fault)));
    let mut unsound: Vec<_> =
        findings.iter().map(|finding| finding.key.clone()).chain(broken.clone()).collect();
    let faults = schema::check(&value, catalog, &broken);
    if !faults.is_empty() {
        mend::mend(&mut value, &faults);
        unsound.extend(schema::check(&value, catalog, &broken).into_iter().map(|fault| fault.problem.key));
    }
    findings.extend(faults.into_iter().map(|fault| provenance.locate(fault)));
    provenance.defaults = schema::fill(&mut value, catalog);
    Ok(Recipe { path: sources.recipe.clone(), value, provenance, mistakes: findings, unsound })
}

fn unmergeable(error: &figment::Error) -> Finding {
    Problem::new(error.path.join("."), format!("the layers cannot be merged: {error}")).into()
}

impl Recipe {
    /// The file the recipe was loaded from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The resolved recipe. Keys stand in the order in which the layers first name them, defaults after them.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// Whether it has no mistakes.
    pub fn is_valid(&self) -> bool {
        self.mistakes.is_empty()
    }

    /// Whether what a key holds can be looked at: there are no mistakes in it, nor in what holds it, but for keys that are
    /// passed over or as good as renamed.
    pub fn is_sound(&self, key: &str) -> bool {
        !self.unsound.iter().any(|unsound| is_within(unsound, key) || is_within(key, unsound))
    }

    /// The value at a dotted path; list items go by index: `data.train.transforms.0.size`.
    pub fn get(&self, key: &str) -> Option<&Value> {
        path::lookup(&self.value, key)
    }

    /// A block as a type of the program. A key that does not exist reads as null.
    ///
    /// # Errors
    /// When the type refuses the block. The error is located at the block; validation by schema has located
    /// most before.
    pub fn deserialize<T: DeserializeOwned>(&self, key: &str) -> Result<T, Diagnostics> {
        T::deserialize(self.get(key).unwrap_or(&Value::Null)).map_err(|error| {
            let message = error.to_string();
            self.diagnose(vec![Problem { key: key.to_owned(), message, help: None }])
        })
    }

    /// The resolved recipe as YAML: a recipe that loads to the same value, without references and other
    /// files.
    pub fn lock_yaml(&self) -> String {
        lock::yaml(&self.value)
    }

    /// A digest of the resolved recipe: blake3 in hexadecimal, the same whatever the order of keys.
    pub fn digest(&self) -> String {
        lock::digest(&self.value)
    }

    /// Every layer that sets a key, the winner last, or that its default holds; `None` when the recipe has no
    /// such key.
    pub fn why(&self, key: &str) -> Option<Vec<Origin>> {
        let value = self.get(key)?;
        Some(self.provenance.origins(key, value))
    }

    /// The keys that no layer sets, and that hold their defaults, sorted.
    pub fn defaults(&self) -> Vec<&str> {
        let mut keys: Vec<&str> = self.provenance.defaults.keys().map(String::as_str).collect();
        keys.sort_unstable();
        keys
    }

    /// Problems that a later check found, with the file, line and column of each, beside the mistakes of a recipe
    /// that was only [`read`].
    pub fn diagnose(&self, problems: Vec<Problem>) -> Diagnostics {
        let locate = |problem| self.provenance.locate(Fault::from(problem));
        let mut findings: Vec<_> =
            self.mistakes.iter().cloned().chain(problems.into_iter().map(locate)).collect();
        findings.sort_by_key(|finding| self.provenance.rank(finding));
        Diagnostics { recipe: self.path.display().to_string(), findings }
    }

    /// The keys in which this recipe differs from an earlier one, for example the lock file of a run to be
    /// resumed.
    pub fn diff(&self, before: &Value) -> Vec<Change> {
        diff(before, &self.value)
    }
}
