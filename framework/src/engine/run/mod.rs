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
pub use signal::{Stop, StopSignal, terminate_after};

use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::component::Span;
use crate::distributed::Communicator;
use crate::graph::{Checked, catalog, check};
use crate::recipe::{Recipe, Sources, read};
use crate::report::logging::LogFile;
use crate::report::{ReportError, RunDir, Status};

use super::EngineError;
use super::setup::{Look, Prepared, prepare, with_all_mistakes};
use super::together::{first, gather, together};
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
    /// The processes that train together.
    pub communicator: Rc<dyn Communicator>,
}

/// Runs a recipe: checks it, trains, evaluates, and writes the run directory. Of several processes the first one writes; all succeed
/// together, or fail together.
pub fn run(options: &RunOptions) -> Result<Outcome, EngineError> {
    let communicator = Rc::clone(&options.communicator);
    let communicator = communicator.as_ref();
    let wanted = together(communicator, Wanted::new(options))?;
    // Everything that can fail for want of data fails before the run directory is touched.
    let is_intact = gather(communicator, wanted.repair(communicator))?.into_iter().all(|is_intact| is_intact);
    let mut ready = together(communicator, wanted.prepare(options))?;
    first(communicator, || ready.take_directory(options))?;
    let session = together(communicator, ready.into_session(options, is_intact))?;
    if is_intact && session.is_finished() {
        tracing::info!("the run in {} is finished", session.dir.root().display());
        return Ok(session.outcome(None));
    }
    if options.stop_with_stdin {
        session.stop.follow(std::io::stdin());
    }
    session.train()
}

/// The directory of a run, if none is given that of its experiment.
fn directory(out: Option<PathBuf>, name: &str) -> PathBuf {
    out.unwrap_or_else(|| Path::new("runs").join(name))
}

/// What is to be run, and where.
struct Wanted {
    recipe: Recipe,
    checked: Checked,
    root: PathBuf,
    /// Whether there is a run, which goes on.
    resume: bool,
}

impl Wanted {
    fn new(options: &RunOptions) -> Result<Self, EngineError> {
        let recipe = read(&options.sources, &catalog())?;
        let checked = check(&recipe).map_err(|mistakes| {
            with_all_mistakes(&recipe, mistakes.into(), Look { samples: false, weights: true })
        })?;
        let root = directory(options.out.clone(), &checked.experiment.name);
        let is_run = RunDir::is_run(&root);
        if options.extend.is_some() && !is_run {
            let message = format!("there is no run in {} that could be trained longer", root.display());
            return Err(EngineError::Usage(message));
        }
        let resume = (options.resume || options.extend.is_some()) && is_run;
        if is_run && !resume {
            return Err(ReportError::AlreadyARun(root).into());
        }
        Ok(Self { recipe, checked, root, resume })
    }

    /// Restores what is damaged of a run that goes on, and tells whether all of it was intact.
    fn repair(&self, communicator: &dyn Communicator) -> Result<bool, EngineError> {
        if self.resume && communicator.is_first() { repair::prepare(&self.root) } else { Ok(true) }
    }

    fn prepare(self, options: &RunOptions) -> Result<Ready, EngineError> {
        let Self { mut recipe, mut checked, root, resume } = self;
        let mut resumed = None;
        if resume {
            let going_on = Resumed::new(&RunDir::inspect(&root)?, &options.sources, recipe, options.extend)?;
            recipe = going_on.recipe.clone();
            checked = check(&recipe)?;
            resumed = Some(going_on);
        }
        // A checkpoint takes the place of the initial weights, which may be gone by now.
        let continues = resume && CheckpointStore::any_in(&RunDir::inspect(&root)?.checkpoints());
        let prepared = prepare(&recipe, checked, Rc::clone(&options.communicator)).and_then(|prepared| {
            if !continues {
                prepared.initialize(&recipe)?;
            }
            Ok(prepared)
        });
        let look = Look { samples: false, weights: !continues };
        let prepared = prepared.map_err(|error| with_all_mistakes(&recipe, error, look))?;
        Ok(Ready { recipe, prepared, root, resumed, continues, dir: None })
    }
}

/// A run with its data and its model, before its directory is touched.
struct Ready {
    recipe: Recipe,
    prepared: Prepared,
    root: PathBuf,
    resumed: Option<Resumed>,
    /// Whether there is a checkpoint.
    continues: bool,
    /// The directory, of the process that writes it.
    dir: Option<RunDir>,
}

impl Ready {
    /// Takes the run directory.
    fn take_directory(&mut self, options: &RunOptions) -> Result<(), EngineError> {
        let lock = self.recipe.lock_yaml();
        let dir = if self.resumed.is_some() {
            let dir = RunDir::open(&self.root)?;
            // It begins anew: nothing is left of the recipe that it was begun with.
            if !self.continues && !dir.says_finished() {
                dir.replace_recipe(&lock)?;
            }
            dir
        } else {
            RunDir::create(&self.root, &lock).map_err(|error| match error {
                // Another process was asked for the same, and was quicker.
                ReportError::AlreadyARun(path) if options.resume => ReportError::Locked { path, pid: None },
                error => error,
            })?
        };
        options.log.attach(&dir.log())?;
        if options.resume && self.resumed.is_none() {
            tracing::info!("nothing to resume in {}: a new run", self.root.display());
        }
        self.dir = Some(dir);
        Ok(())
    }

    /// The run at its first step, or at its last checkpoint.
    fn into_session(self, options: &RunOptions, is_intact: bool) -> Result<Session, EngineError> {
        let dir = self.dir.map_or_else(|| RunDir::inspect(&self.root), Ok)?;
        let mut session = Session::new(self.prepared, dir, &self.recipe)?;
        if let Some(resumed) = self.resumed {
            if is_intact && session.is_first() {
                repair::write_missing_page(&session.dir)?;
            }
            // Nothing is taken up of a run whose last checkpoint is gone: what is left is of an earlier step.
            let is_left_alone = is_intact && session.dir.is_finished() && !has_last(&session.dir);
            if !is_left_alone {
                take_up(&mut session, &self.recipe, &resumed, options.extend)?;
            }
        }
        Ok(session)
    }
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
    if !session.is_first() {
        return Ok(());
    }
    if extend.is_some() || !resumed.moved.is_empty() {
        session.dir.replace_recipe(&recipe.lock_yaml())?;
    }
    if let Some(more) = extend {
        session.tell_extension(more);
        session.write_files(&Status::Running)?;
    }
    Ok(())
}
