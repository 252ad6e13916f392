//! What a run that is resumed goes on with: its recipe, and its data.

use serde_json::{Value, json};

use crate::component::Span;
use crate::engine::EngineError;
use crate::engine::setup::IndexDigests;
use crate::engine::setup::lineage::{changes_from, recipe_digest, source_of};
use crate::engine::train::checkpoint::CheckpointStore;
use crate::graph::catalog;
use crate::recipe::{Change, Recipe, Sources, is_within, load};
use crate::report::{RunDir, Summary};

/// Where a recipe names the data.
const DATASETS: [&str; 2] = ["data.train.dataset", "data.val.dataset"];
/// Where it names a file with weights to start from.
const INIT_FROM: [&str; 2] = ["init_from", "init_from.weights"];
const LENGTH: &str = "train.length";
const EXTENDED: &str = "train.extended";

/// The recipe of a run that goes on.
pub struct Resumed {
    /// The given one, with the extensions that the run has.
    pub recipe: Recipe,
    /// In which keys it names other places of the data than before: these are to be the same.
    pub moved: Vec<Change>,
}

impl Resumed {
    /// The run at `run` with a recipe, and trained longer by `extend`.
    ///
    /// # Errors
    /// A recipe with which the results would be others; an extension of a run that has no state left.
    pub fn new(
        run: &RunDir,
        sources: &Sources,
        recipe: Recipe,
        extend: Option<Span>,
    ) -> Result<Self, EngineError> {
        if extend.is_some() && !has_last(run) {
            return Err(EngineError::Usage(format!(
                "{}: there is no checkpoint of its end, and so no state that the training could go on with; a new run starts from its \
                 weights with `init_from: {{ run: {} }}`",
                run.root().display(),
                run.root().display()
            )));
        }
        if extend.is_none() && recipe_digest(run.root()).is_some_and(|known| known == recipe.digest()) {
            return Ok(Self { recipe, moved: Vec::new() });
        }
        let before = load(&Sources { recipe: run.recipe(), ..Sources::default() }, &catalog())?;
        let recipe = with_extensions(&before, sources, recipe, extend)?;
        let is_extension = |change: &Change| extend.is_some() && is_within(&change.key, EXTENDED);
        let source = source_of(recipe.value());
        let mut changes = changes_from(run, before.value(), recipe.value(), source.as_deref());
        changes.retain(|change| !is_extension(change));
        // A checkpoint takes the place of the initial weights.
        if CheckpointStore::any_in(&run.checkpoints()) {
            changes.retain(|change| !names_another_place(change, &INIT_FROM));
        }
        let (moved, changes): (Vec<_>, Vec<_>) =
            changes.into_iter().partition(|change| names_another_place(change, &DATASETS));
        if changes.is_empty() {
            return Ok(Self { recipe, moved });
        }
        let longer = changes.iter().find(|change| change.key == LENGTH).map(|change| {
            format!(
                "; `convmae run {} --extend {}` trains the run longer",
                run.root().display(),
                added(change)
            )
        });
        let longer = longer.unwrap_or_default();
        let help = format!("undo these changes, or start a new run with `--out`{longer}");
        Err(EngineError::RecipeChanged { run: run.root().to_path_buf(), changes: lines(&changes), help })
    }

    /// Refuses data that are not those that the run had: another training set, or another validation set in
    /// another place.
    pub fn refuse_other_data(&self, before: &IndexDigests, now: &IndexDigests) -> Result<(), EngineError> {
        for (key, before, now) in
            [(DATASETS[0], &before.train, &now.train), (DATASETS[1], &before.val, &now.val)]
        {
            let moved: Vec<_> =
                self.moved.iter().filter(|change| is_within(&change.key, key)).cloned().collect();
            let reason = match (before, now) {
                (Some(before), Some(now)) if before == now => continue,
                (Some(_), Some(_)) if key == DATASETS[0] || !moved.is_empty() => {
                    "they are not the images that the run had: names, classes or their order are others"
                }
                (None, _) | (_, None) if !moved.is_empty() => {
                    "the run cannot tell whether these are the images it had: put them back where they were"
                }
                _ => continue,
            };
            let moved = if moved.is_empty() { String::new() } else { format!("\n{}", lines(&moved)) };
            return Err(EngineError::Usage(format!(
                "`{key}`: {reason}; start a new run with `--out`{moved}"
            )));
        }
        Ok(())
    }
}

/// Whether there is a checkpoint of where a run was last: of a finished one that of its end may have been removed, and
/// others be left.
pub fn has_last(run: &RunDir) -> bool {
    let Some(last) = CheckpointStore::last_in(&run.checkpoints()) else { return false };
    let summary = Summary::read(&run.summary()).ok();
    let step = summary.and_then(|summary| summary.get("step")?.as_u64());
    !run.says_finished() || step.is_none_or(|step| last >= step)
}

/// The recipe with the extensions that the run has had, if it states none itself, and one more.
fn with_extensions(
    before: &Recipe,
    sources: &Sources,
    recipe: Recipe,
    extend: Option<Span>,
) -> Result<Recipe, EngineError> {
    let extensions =
        |recipe: &Recipe| -> Result<Vec<Span>, EngineError> { Ok(recipe.deserialize(EXTENDED)?) };
    let stated = extensions(&recipe)?;
    let mut wanted = if stated.is_empty() { extensions(before)? } else { stated.clone() };
    wanted.extend(extend);
    if wanted == stated {
        return Ok(recipe);
    }
    let mut sources = sources.clone();
    sources.sets.push(format!("{EXTENDED}={}", json!(wanted)));
    Ok(load(&sources, &catalog())?)
}

/// Whether a change is one of a path below some blocks, or of one of some keys.
fn names_another_place(change: &Change, blocks: &[&str]) -> bool {
    [&change.before, &change.after].into_iter().all(|value| matches!(value, Some(Value::String(_))))
        && change.key.rsplit('.').next() != Some("type")
        && blocks.iter().any(|block| is_within(&change.key, block))
}

/// By how much a changed length is longer, in its own unit; an example where it is not.
fn added(change: &Change) -> Span {
    let length = |value: &Option<Value>| value.as_ref()?.as_str()?.parse::<Span>().ok();
    match (length(&change.before), length(&change.after)) {
        (Some(Span::Epochs(before)), Some(Span::Epochs(after))) if after > before => {
            Span::Epochs(after - before)
        }
        (Some(Span::Iterations(before)), Some(Span::Iterations(after))) if after > before => {
            Span::Iterations(after - before)
        }
        _ => Span::Epochs(10.0),
    }
}

fn lines(changes: &[Change]) -> String {
    changes.iter().map(|change| format!("  {change}")).collect::<Vec<_>>().join("\n")
}
