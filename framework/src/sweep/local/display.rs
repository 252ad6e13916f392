//! Progress of a sweep: a line per run in progress on a terminal, a line per event elsewhere.

use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde_json::Value;

use super::process::{Process, RunEnd};
use crate::report::{RunDir, Summary, clock};
use crate::sweep::plan::{Plan, PlannedRun};
use crate::terminal::{say, visible};

/// Between two readings of the logs.
const INTERVAL: Duration = Duration::from_secs(1);
/// Metrics that are shown of a finished run.
const METRICS: usize = 3;

/// Shows the progress of a sweep on standard error.
pub(super) struct Display {
    runs: usize,
    ended: usize,
    live: Option<Live>,
}

struct Live {
    bars: MultiProgress,
    whole: ProgressBar,
    /// A line for each run in progress, by its number.
    lines: Vec<(usize, ProgressBar)>,
    read: Option<Instant>,
}

impl Display {
    pub fn new(plan: &Plan, finished: usize) -> Self {
        let runs = plan.runs.len();
        let live = io::stderr().is_terminal().then(|| {
            let bars = MultiProgress::new();
            let whole = bars.add(ProgressBar::new(runs as u64).with_position(finished as u64));
            whole.set_style(style("{bar:24.cyan/238} {pos}/{len} runs  {elapsed}"));
            whole.enable_steady_tick(INTERVAL);
            Live { bars, whole, lines: Vec::new(), read: None }
        });
        let display = Self { runs, ended: finished, live };
        if finished > 0 {
            display.print(&format!("{finished} of {runs} runs are finished already"));
        }
        display
    }

    pub fn started(&self, run: &PlannedRun) {
        if self.live.is_none() {
            self.print(&format!("started {}", run.name));
        }
    }

    /// Another process does the run.
    pub fn waiting(&self, run: &PlannedRun) {
        self.print(&format!("waiting for {}, which another process does", run.name));
    }

    pub fn ended(&mut self, run: &PlannedRun, end: &RunEnd, elapsed: Option<Duration>) {
        self.ended += 1;
        let time = elapsed.map(|elapsed| format!(" in {}", clock(elapsed.as_secs()))).unwrap_or_default();
        let line = match end {
            RunEnd::Finished => format!("finished {}{time}{}", run.name, figures(run)),
            RunEnd::Failed(reason) => {
                let log = run.log();
                format!(
                    "failed {}{time}, see {}\n  {}",
                    run.name,
                    log.display(),
                    reason.replace('\n', "\n  ")
                )
            }
            RunEnd::Interrupted => format!("interrupted {}{time}", run.name),
            RunEnd::Blocked => format!("blocked {}: the run it starts from is not finished", run.name),
        };
        self.print(&format!("[{}/{}] {line}", self.ended, self.runs));
        if let Some(live) = &self.live {
            live.whole.inc(1);
        }
    }

    /// Shows what the runs in progress say.
    pub fn show(&mut self, plan: &Plan, processes: &mut [(usize, Process)]) {
        let Some(live) = &mut self.live else { return };
        live.lines.retain(|(run, line)| {
            let runs = processes.iter().any(|(other, _)| other == run);
            if !runs {
                line.finish_and_clear();
            }
            runs
        });
        let due = live.read.is_none_or(|read| read.elapsed() > INTERVAL);
        for (run, process) in processes {
            let known = live.lines.iter().position(|(other, _)| other == run);
            let at = known.unwrap_or_else(|| {
                let line = live.bars.insert_before(&live.whole, ProgressBar::new_spinner());
                line.set_style(style("{spinner} {prefix}  {elapsed}  {wide_msg}"));
                line.set_prefix(plan.runs[*run].name.clone());
                live.lines.push((*run, line));
                live.lines.len() - 1
            });
            if due || known.is_none() {
                live.lines[at].1.set_message(visible(&process.last_line().unwrap_or_default()));
                live.lines[at].1.tick();
            }
        }
        if due {
            live.read = Some(Instant::now());
        }
    }

    /// Takes the table off the screen.
    pub fn close(self) {
        if let Some(live) = self.live {
            live.lines.iter().for_each(|(_, line)| line.finish_and_clear());
            live.whole.finish_and_clear();
        }
    }

    fn print(&self, text: &str) {
        let write = || say(text);
        match &self.live {
            Some(live) => live.bars.suspend(write),
            None => write(),
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .map_or_else(|_| ProgressStyle::default_bar(), |style| style.progress_chars("━╸─"))
}

/// The first metrics of a finished run: `  val.loss 0.5432`.
fn figures(run: &PlannedRun) -> String {
    let summary = RunDir::inspect(&run.directory).and_then(|dir| Summary::read(&dir.summary()));
    let summary = summary.unwrap_or_default();
    let metrics = summary.iter().filter(|(name, _)| name.starts_with("val."));
    let metrics = metrics.filter_map(|(name, value)| Some((name, Value::as_f64(value)?)));
    metrics.take(METRICS).map(|(name, value)| format!("  {name} {value:.4}")).collect::<Vec<_>>().concat()
}
