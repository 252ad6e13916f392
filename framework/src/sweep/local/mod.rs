//! The runs of a sweep as processes on this machine, a few at a time.

mod cards;
mod display;
mod process;

use std::collections::HashSet;
use std::time::Duration;

use rayon::prelude::*;

use super::SweepError;
use super::command::program;
use super::plan::{Plan, PlannedRun};
use super::state::RunState;
use crate::engine::StopSignal;
use crate::report::RunDir;
use cards::Cards;
use display::Display;
pub(crate) use process::HELD;
pub use process::RunEnd;
use process::{Exit, Process};

/// Between two looks at the processes.
const PAUSE: Duration = Duration::from_millis(50);

/// How the runs are done.
#[derive(Debug, Clone, Copy)]
pub struct LocalOptions {
    /// Runs at once.
    pub jobs: usize,
    /// Whether runs that failed are tried again.
    pub retry_failed: bool,
}

/// How a sweep ended.
#[derive(Debug, Clone)]
pub struct SweepOutcome {
    /// How each run of the plan ended.
    pub ends: Vec<RunEnd>,
    /// Whether a signal stopped it.
    pub stopped: bool,
}

/// Threads of each of several runs that share the machine; `RAYON_NUM_THREADS` decides instead if it is set.
pub(super) fn threads(jobs: usize) -> usize {
    let set = std::env::var("RAYON_NUM_THREADS").ok().and_then(|number| number.parse().ok());
    let share = || std::thread::available_parallelism().map_or(1, usize::from) / jobs.max(1);
    set.filter(|threads| *threads > 0).unwrap_or_else(share).max(1)
}

impl Plan {
    /// Does the runs that are not finished. One that fails does not stop the others, but those that start
    /// from it. SIGINT and SIGTERM stop all runs, which save their state. What another process does already
    /// is waited for.
    pub fn run(&self, options: LocalOptions) -> Result<SweepOutcome, SweepError> {
        let stop = StopSignal::listen().map_err(SweepError::Signals)?;
        let ends: Vec<_> = self.runs.par_iter().map(|run| end_before(run, options.retry_failed)).collect();
        let display =
            Display::new(self, ends.iter().flatten().filter(|end| **end == RunEnd::Finished).count());
        let mut sweep = Running {
            plan: self,
            jobs: options.jobs.max(1),
            program: program()?,
            retry_failed: options.retry_failed,
            ends,
            processes: Vec::new(),
            held: HashSet::new(),
            cards: Cards::visible(),
            display,
        };
        sweep.tell_failed();
        loop {
            sweep.reap();
            match stop.is_set() {
                true => sweep.processes.iter_mut().for_each(|(_, process)| process.stop()),
                false => sweep.start(),
            }
            sweep.display.show(self, &mut sweep.processes);
            if sweep.processes.is_empty() && (stop.is_set() || !sweep.is_waiting()) {
                break;
            }
            std::thread::sleep(PAUSE);
        }
        sweep.display.close();
        let end = |end: Option<RunEnd>| end.unwrap_or(RunEnd::Interrupted);
        Ok(SweepOutcome { ends: sweep.ends.into_iter().map(end).collect(), stopped: stop.is_set() })
    }
}

/// How a run has ended before it is begun. One that is finished, but damaged since, is made whole again by
/// going on with it.
fn end_before(run: &PlannedRun, retry_failed: bool) -> Option<RunEnd> {
    match run.state() {
        RunState::Finished => run.is_intact().then_some(RunEnd::Finished),
        RunState::Failed if !retry_failed => {
            Some(RunEnd::Failed("it failed before; `--retry-failed` tries it again".to_owned()))
        }
        RunState::SourceChanged => Some(RunEnd::Failed(run.advice())),
        _ => None,
    }
}

/// A sweep in progress.
struct Running<'p> {
    plan: &'p Plan,
    jobs: usize,
    retry_failed: bool,
    program: std::path::PathBuf,
    /// By run; `None` while it has not ended.
    ends: Vec<Option<RunEnd>>,
    /// Runs in progress.
    processes: Vec<(usize, Process)>,
    /// Runs that another process does, of which the user knows.
    held: HashSet<usize>,
    cards: Cards,
    display: Display,
}

impl Running<'_> {
    /// Tells of the runs that failed before and are not tried again, or cannot be started.
    fn tell_failed(&mut self) {
        for (run, end) in self.plan.runs.iter().zip(&self.ends) {
            if let Some(end @ RunEnd::Failed(_)) = end {
                self.display.ended(run, end, None);
            }
        }
    }

    fn is_waiting(&self) -> bool {
        self.ends.iter().any(Option::is_none)
    }

    /// Starts what can be started; first what starts from a finished run, for the figures at the end of a
    /// chain are what is waited for.
    fn start(&mut self) {
        let (last, first): (Vec<_>, Vec<_>) =
            (0..self.ends.len()).partition(|&at| self.plan.runs[at].upstream.is_none());
        for at in first.into_iter().chain(last) {
            if self.processes.len() >= self.jobs {
                return;
            }
            let in_progress = self.processes.iter().any(|(run, _)| *run == at);
            if self.ends[at].is_some() || in_progress {
                continue;
            }
            match self.plan.runs[at].upstream.map(|upstream| &self.ends[upstream]) {
                None | Some(Some(RunEnd::Finished)) => self.start_run(at),
                Some(None) => {}
                Some(Some(_)) => self.end(at, RunEnd::Blocked, None),
            }
        }
    }

    fn start_run(&mut self, at: usize) {
        let run = &self.plan.runs[at];
        if RunDir::is_held(&run.directory) {
            if self.held.insert(at) {
                self.display.waiting(run);
            }
            return;
        }
        // Another process may have ended it since, or the run it starts from.
        if let Some(end) = end_before(run, self.retry_failed) {
            return self.end(at, end, None);
        }
        let card = self.cards.take(at, run);
        match Process::start(&self.program, run, threads(self.jobs), card) {
            Ok(process) => {
                self.display.started(run);
                self.processes.push((at, process));
            }
            Err(error) => {
                self.cards.release(at);
                self.end(at, RunEnd::Failed(error.to_string()), None);
            }
        }
    }

    /// Takes note of the processes that have ended.
    fn reap(&mut self) {
        let mut ended = Vec::new();
        self.processes.retain_mut(|(at, process)| {
            let exit = process.exit(&self.plan.runs[*at]);
            let elapsed = process.elapsed();
            let goes_on = exit.is_none();
            ended.extend(exit.map(|exit| (*at, exit, elapsed)));
            goes_on
        });
        for (at, exit, elapsed) in ended {
            self.cards.release(at);
            match exit {
                Exit::Ended(end) => self.end(at, end, Some(elapsed)),
                // It is waited for as if it had never been started.
                Exit::Held => {}
            }
        }
    }

    fn end(&mut self, at: usize, end: RunEnd, elapsed: Option<Duration>) {
        self.display.ended(&self.plan.runs[at], &end, elapsed);
        self.ends[at] = Some(end);
    }
}
