//! A run from its recipe to its report.

mod repair;
mod session;
mod signal;
mod state;
mod training;
mod write;

pub use session::Outcome;
pub use signal::{StopSignal, terminate_after};

use std::path::{Path, PathBuf};

use crate::graph::{catalog, check};
use crate::recipe::{Recipe, Sources, load};
use crate::report::logging::LogFile;
use crate::report::{ReportError, RunDir};

use super::EngineError;
use super::setup::lineage::{changes_since, source_of};
use super::setup::prepare;
use super::train::checkpoint::CheckpointStore;

use session::Session;

/// What `run` is asked for.
pub struct RunOptions {
    /// The recipe and what overrides it.
    pub sources: Sources,
    /// The run directory; `runs/<name>` if none is given.
    pub out: Option<PathBuf>,
    /// Whether to continue what is there.
    pub resume: bool,
    /// Whether to stop, as on SIGTERM, when standard input ends: with the process that started this one.
    pub stop_with_stdin: bool,
    /// Where the log goes as JSON once the run directory is known.
    pub log: LogFile,
}

/// Runs a recipe: checks it, trains, evaluates, and writes the run directory.
pub fn run(options: RunOptions) -> Result<Outcome, EngineError> {
    let recipe = load(&options.sources, &catalog())?;
    let checked = check(&recipe)?;
    let root = options.out.unwrap_or_else(|| Path::new("runs").join(&checked.experiment.name));
    let resume = options.resume && RunDir::is_run(&root);
    if !options.resume && RunDir::is_run(&root) {
        return Err(ReportError::AlreadyARun(root).into());
    }
    let mut is_intact = true;
    if resume {
        is_intact = repair::prepare(&root)?;
        refuse_changed_recipe(&recipe, &root)?;
    }
    // Everything that can fail for want of data fails before the run directory is touched.
    let prepared = prepare(&recipe, checked)?;
    // A checkpoint takes the place of the initial weights, which may be gone by now.
    let continues = resume && CheckpointStore::any_in(&RunDir::inspect(&root)?.checkpoints());
    if !continues {
        prepared.initialize(&recipe)?;
    }
    let dir = match resume {
        true => {
            let dir = RunDir::open(&root)?;
            // It begins anew: nothing is left of the recipe that it was begun with.
            if !continues && !dir.says_finished() {
                dir.replace_recipe(&recipe.lock_yaml())?;
            }
            dir
        }
        false => RunDir::create(&root, &recipe.lock_yaml()).map_err(|error| match error {
            // Another process was asked for the same, and was quicker.
            ReportError::AlreadyARun(path) if options.resume => ReportError::Locked { path, pid: None },
            error => error,
        })?,
    };
    options.log.attach(&dir.log())?;
    if options.resume && !resume {
        tracing::info!("nothing to resume in {}: a new run", root.display());
    }
    let mut session = Session::new(prepared, dir, &recipe)?;
    if options.stop_with_stdin {
        session.stop.follow(std::io::stdin());
    }
    if resume {
        if is_intact {
            repair::write_missing_page(&session.dir)?;
        }
        session.restore()?;
        if is_intact && session.is_finished() {
            tracing::info!("the run in {} is finished", session.dir.root().display());
            return Ok(session.outcome(false));
        }
    }
    session.train()
}

/// Refuses to resume with a recipe that would give other results.
fn refuse_changed_recipe(recipe: &Recipe, root: &Path) -> Result<(), EngineError> {
    let source = source_of(recipe.value());
    let changes =
        changes_since(&RunDir::inspect(root)?, recipe.value(), &recipe.digest(), source.as_deref())?;
    if changes.is_empty() {
        return Ok(());
    }
    let changes: Vec<String> = changes.iter().map(|change| format!("  {change}")).collect();
    Err(EngineError::RecipeChanged { run: root.to_path_buf(), changes: changes.join("\n") })
}
