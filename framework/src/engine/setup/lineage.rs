//! Of which recipe a run directory is, and of what run it started from.

use std::path::Path;

use serde_json::Value;

use crate::engine::train::checkpoint::CheckpointStore;
use crate::experiment::changes_of_results;
use crate::graph::catalog;
use crate::recipe::{Change, Diagnostics, Sources, load};
use crate::report::{RunDir, Summary};

/// The entry of a summary that tells what the run started from.
pub const INIT_FROM_DIGEST: &str = "init_from_digest";

/// In which keys the recipe of a run differs from a resolved one with this digest, so that results may
/// differ. None: the run is of that recipe. The run that they start from is the same one wherever it lies;
/// `source` stands for the one that the resolved recipe names.
///
/// # Errors
/// When this program cannot read the recipe of the run.
pub fn changes_since(
    run: &RunDir,
    recipe: &Value,
    digest: &str,
    source: Option<&str>,
) -> Result<Vec<Change>, Diagnostics> {
    if recipe_digest(run.root()).is_some_and(|known| known == digest) {
        return Ok(Vec::new());
    }
    let sources = Sources { recipe: run.recipe(), ..Sources::default() };
    Ok(changes_from(run, load(&sources, &catalog())?.value(), recipe, source))
}

/// [`changes_since`] the recipe `before` of the run.
pub fn changes_from(run: &RunDir, before: &Value, recipe: &Value, source: Option<&str>) -> Vec<Change> {
    let mut changes = changes_of_results(before, recipe);
    let is_same_source = match started_from(run.root()) {
        Some(then) => source == Some(then.as_str()),
        // Nothing was trained yet that depends on it.
        None => !CheckpointStore::any_in(&run.checkpoints()),
    };
    changes.retain(|change| !(is_same_source && change.key == "init_from.run"));
    changes
}

/// What stands for the run that a resolved recipe starts from: the [`lineage_of`] what is there now.
pub fn source_of(recipe: &Value) -> Option<String> {
    lineage_of(Path::new(recipe.pointer("/init_from/run")?.as_str()?))
}

/// What stands for a run in those that start from it: the digest of its recipe, and of what it started from
/// itself.
pub fn lineage(recipe_digest: &str, started_from: Option<&str>) -> String {
    match started_from {
        None => recipe_digest.to_owned(),
        Some(source) => blake3::hash(format!("{source}\n{recipe_digest}").as_bytes()).to_hex().to_string(),
    }
}

/// The [`lineage`] of the run at `root`; `None` if there is none, or it does not tell its recipe.
pub fn lineage_of(root: &Path) -> Option<String> {
    Some(lineage(&recipe_digest(root)?, started_from(root).as_deref()))
}

/// The [`lineage`] of the run whose weights the run at `root` started from, as it was then:
/// `init_from_digest` in its `summary.json`. `None` if it started from no run, or is too old to tell.
pub fn started_from(root: &Path) -> Option<String> {
    entry(root, INIT_FROM_DIGEST)
}

/// Whether the run at `root` started from another run than there is at `source` now: that one was done anew
/// with another recipe, or from other weights. `false` where one of them does not tell.
pub fn source_has_changed(root: &Path, source: &Path) -> bool {
    started_from(root).zip(lineage_of(source)).is_some_and(|(then, now)| then != now)
}

/// The digest of the recipe of the run at `root`, as its summary has it.
pub fn recipe_digest(root: &Path) -> Option<String> {
    entry(root, "recipe_digest")
}

/// A text of a run's summary.
fn entry(root: &Path, name: &str) -> Option<String> {
    let summary = Summary::read(&RunDir::inspect(root).ok()?.summary()).ok()?;
    summary.get(name)?.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn run(root: &Path, digest: &str, started_from: Option<&str>) {
        if !RunDir::is_run(root) {
            drop(RunDir::create(root, "").unwrap());
        }
        let mut summary = Summary::default();
        summary.set("recipe_digest", digest);
        if let Some(source) = started_from {
            summary.set(INIT_FROM_DIGEST, source);
        }
        summary.write(&root.join("summary.json")).unwrap();
    }

    #[test]
    fn a_change_upstream_is_seen_through_the_whole_chain() {
        let folder = tempfile::tempdir().unwrap();
        let [a, b, c] = ["a", "b", "c"].map(|name| folder.path().join(name));
        assert!(!source_has_changed(&b, &a));
        run(&a, "1", None);
        run(&b, "2", lineage_of(&a).as_deref());
        run(&c, "3", lineage_of(&b).as_deref());
        assert!(!source_has_changed(&b, &a) && !source_has_changed(&c, &b));
        run(&a, "other", None);
        assert!(source_has_changed(&b, &a) && !source_has_changed(&c, &b));
        run(&b, "2", lineage_of(&a).as_deref());
        assert!(!source_has_changed(&b, &a) && source_has_changed(&c, &b));
        // A run that does not tell.
        run(&c, "3", None);
        assert!(!source_has_changed(&c, &b));
    }
}
