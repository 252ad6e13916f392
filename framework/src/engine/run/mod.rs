//! A run from its recipe to its report.

mod dry_run;
mod early_stop;
mod repair;
mod resumed;
mod session;
mod signal;
mod state;
mod training;
mod write;

pub use dry_run::{DryRun, dry_run};
pub use session::Outcome;
pub use signal::{StopSignal, terminate_after};

use std::path::{Path, PathBuf};

use crate::component::Span;
use crate::graph::{catalog, check};
use crate::recipe::{Recipe, Sources, read};
use crate::report::logging::LogFile;
use crate::report::{ReportError, RunDir, Status};

use super::EngineError;
use super::setup::{Look, prepare, with_all_mistakes};
use super::train::checkpoint::CheckpointStore;

use resumed::{Resumed, has_last};
use session::Session;

/// What `run` is asked for.
pub struct RunOptions {
    /// The recipe and what overrides it.
    pub sources: Sources,
    /// The run directory; `runs/<name>` if none is given.
    pub out: Option<PathBuf>,
    /// Whether to continue what is there.
    pub resume: bool,
    /// By how much to train longer what is there.
    pub extend: Option<Span>,
    /// Whether to stop, as on SIGTERM, when standard input ends: with the process that started this one.
    pub stop_with_stdin: bool,
    /// Where the log goes as JSON once the run directory is known.
    pub log: LogFile,
}

/// Runs a recipe: checks it, trains, evaluates, and writes the run directory.
pub fn run(options: RunOptions) -> Result<Outcome, EngineError> {
    let mut recipe = read(&options.sources, &catalog())?;
    let mut checked = check(&recipe).map_err(|mistakes| {
        with_all_mistakes(&recipe, mistakes.into(), Look { samples: false, weights: true })
    })?;
    let root = directory(options.out, &checked.experiment.name);
    let is_run = RunDir::is_run(&root);
    if options.extend.is_some() && !is_run {
        let message = format!("there is no run in {} that could be trained longer", root.display());
        return Err(EngineError::Usage(message));
    }
    let resume = (options.resume || options.extend.is_some()) && is_run;
    if is_run && !resume {
        return Err(ReportError::AlreadyARun(root).into());
    }
    let (mut is_intact, mut resumed) = (true, None);
    if resume {
        is_intact = repair::prepare(&root)?;
        let going_on = Resumed::new(&RunDir::inspect(&root)?, &options.sources, recipe, options.extend)?;
        recipe = going_on.recipe.clone();
        checked = check(&recipe)?;
        resumed = Some(going_on);
    }
    // A checkpoint takes the place of the initial weights, which may be gone by now.
    let continues = resume && CheckpointStore::any_in(&RunDir::inspect(&root)?.checkpoints());
    // Everything that can fail for want of data fails before the run directory is touched.
    let prepared = prepare(&recipe, checked).and_then(|prepared| {
        if !continues {
            prepared.initialize(&recipe)?;
        }
        Ok(prepared)
    });
    let look = Look { samples: false, weights: !continues };
    let prepared = prepared.map_err(|error| with_all_mistakes(&recipe, error, look))?;
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
    if let Some(resumed) = resumed {
        if is_intact {
            repair::write_missing_page(&session.dir)?;
        }
        // Nothing is taken up of a run whose last checkpoint is gone: what is left is of an earlier step.
        let is_left_alone = is_intact && session.dir.is_finished() && !has_last(&session.dir);
        if !is_left_alone {
            take_up(&mut session, &recipe, &resumed, options.extend)?;
        }
        if is_intact && session.is_finished() {
            tracing::info!("the run in {} is finished", session.dir.root().display());
            return Ok(session.outcome(false));
        }
    }
    session.train()
}

/// The directory of a run, if none is given that of its experiment.
fn directory(out: Option<PathBuf>, name: &str) -> PathBuf {
    out.unwrap_or_else(|| Path::new("runs").join(name))
}

/// Goes back to the last checkpoint, from which the run goes on with its recipe.
fn take_up(
    session: &mut Session,
    recipe: &Recipe,
    resumed: &Resumed,
    extend: Option<Span>,
) -> Result<(), EngineError> {
    session.restore(resumed)?;
    if let Some(early) = session.early.as_ref().filter(|early| extend.is_some() && early.is_over()) {
        return Err(EngineError::Usage(format!(
            "`train.stop` ends this training, however long it is: {early}; a new run starts from its weights with \
             `init_from: {{ run: {} }}`",
            session.dir.root().display()
        )));
    }
    if extend.is_some() || !resumed.moved.is_empty() {
        session.dir.replace_recipe(&recipe.lock_yaml())?;
    }
    if let Some(more) = extend {
        session.tell_extension(more);
        session.write(&Status::Running)?;
    }
    Ok(())
}
