//! How far a run is: a bar on a terminal, a few lines elsewhere.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::console::{bars, suspend_progress};
use crate::terminal::say;

/// The figures of one training step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepReport {
    /// Optimizer steps taken, this one included.
    pub step: u64,
    /// Passes over the training set, with fraction.
    pub epoch: f64,
    /// Training loss.
    pub loss: f64,
    /// Learning rate.
    pub lr: f64,
    /// Throughput; `None` while it is not known.
    pub images_per_second: Option<f64>,
}

/// Shows the progress of a run on standard error. Dropped without [`finish`](Self::finish), it leaves the bar
/// where it was.
#[derive(Debug)]
pub struct Progress {
    display: Display,
}

#[derive(Debug)]
enum Display {
    Hidden,
    Bar(ProgressBar),
    Lines(Lines),
}

impl Progress {
    /// A display for steps `start_step` (0, or where a resumed run goes on) to `total_steps`.
    pub fn new(total_steps: u64, start_step: u64, steps_per_epoch: u64) -> Self {
        let display = if io::stderr().is_terminal() {
            let bar = bars().add(ProgressBar::new(total_steps).with_position(start_step).with_style(style()));
            bar.reset_eta();
            bar.enable_steady_tick(Duration::from_secs(1));
            Display::Bar(bar)
        } else {
            Display::Lines(Lines::new(total_steps, start_step, steps_per_epoch, Instant::now()))
        };
        Self { display }
    }

    /// No display: that of a process for which another one speaks.
    pub fn hidden() -> Self {
        Self { display: Display::Hidden }
    }

    /// A step is done. Cheap enough to be called for every one.
    pub fn step(&mut self, report: &StepReport) {
        match &mut self.display {
            Display::Hidden => {}
            Display::Bar(bar) => {
                bar.set_position(report.step);
                bar.set_message(figures(report));
            }
            Display::Lines(lines) => {
                if let Some(line) = lines.step(report, Instant::now()) {
                    print(&line);
                }
            }
        }
    }

    /// Says something worth a line of its own, such as the result of an evaluation.
    pub fn message(&mut self, message: &str) {
        if let Display::Lines(lines) = &mut self.display {
            lines.spoken(Instant::now());
        }
        print(message);
    }

    /// Takes the bar off the screen.
    pub fn finish(self) {
        if let Display::Bar(bar) = &self.display {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Display::Bar(bar) = &self.display
            && !bar.is_finished()
        {
            bar.abandon();
        }
    }
}

fn print(line: &str) {
    suspend_progress(|| say(line));
}

const TEMPLATE: &str = "{bar:24.cyan/238} {pos}/{len}  {msg}  {elapsed} < {eta}";

fn style() -> ProgressStyle {
    ProgressStyle::with_template(TEMPLATE)
        .map_or_else(|_| ProgressStyle::default_bar(), |style| style.progress_chars("━╸─"))
}

fn figures(report: &StepReport) -> String {
    let mut text = format!("epoch {:.2}  loss {:.4}  lr {:.2e}", report.epoch, report.loss, report.lr);
    if let Some(rate) = report.images_per_second {
        let digits = usize::from(rate < 100.0);
        // Writing to a string does not fail.
        let _ = write!(text, "  {rate:.digits$} img/s");
    }
    text
}

/// Decides which steps deserve a line.
#[derive(Debug)]
struct Lines {
    total_steps: u64,
    steps_per_epoch: u64,
    start: (u64, Instant),
    last: Instant,
}

impl Lines {
    /// The longest silence.
    const INTERVAL: Duration = Duration::from_secs(30);
    /// An epoch that ends sooner than this after the last line is not worth one.
    const EPOCH_INTERVAL: Duration = Duration::from_secs(5);

    fn new(total_steps: u64, start_step: u64, steps_per_epoch: u64, now: Instant) -> Self {
        Self { total_steps, steps_per_epoch: steps_per_epoch.max(1), start: (start_step, now), last: now }
    }

    fn step(&mut self, report: &StepReport, now: Instant) -> Option<String> {
        let silence = now.duration_since(self.last);
        let ends_epoch = report.step.is_multiple_of(self.steps_per_epoch);
        let first = report.step == self.start.0 + 1;
        let due = first
            || report.step >= self.total_steps
            || silence >= Self::INTERVAL
            || (ends_epoch && silence >= Self::EPOCH_INTERVAL);
        due.then(|| {
            self.spoken(now);
            let width = self.total_steps.to_string().len();
            let mut line = format!("step {:>width$}/{}  {}", report.step, self.total_steps, figures(report));
            if let Some(eta) = self.eta(report.step, now) {
                let _ = write!(line, "  {eta} left");
            }
            line
        })
    }

    fn spoken(&mut self, now: Instant) {
        self.last = now;
    }

    fn eta(&self, step: u64, now: Instant) -> Option<String> {
        let (done, left) = (step.saturating_sub(self.start.0), self.total_steps.saturating_sub(step));
        // The first steps say little about the others.
        let elapsed = now.duration_since(self.start.1).as_secs_f64();
        (done > 1 && left > 0).then(|| clock((elapsed / done as f64 * left as f64) as u64))
    }
}

/// Hours, minutes, seconds, as far as needed: `2:05:09`, `4:07`.
pub(crate) fn clock(seconds: u64) -> String {
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn plain_lines_are_few_and_say_everything() {
        let start = Instant::now();
        let mut lines = Lines::new(1000, 100, 100, start);
        let printed: Vec<String> = (101..=1000_u64)
            .filter_map(|step| {
                let report = StepReport {
                    step,
                    epoch: step as f64 / 100.0,
                    loss: 100.0 / step as f64,
                    lr: 1.5e-4,
                    images_per_second: (step > 101).then_some(64.0 + step as f64 / 10.0),
                };
                lines.step(&report, start + Duration::from_millis(100 * (step - 100)))
            })
            .collect();
        insta::assert_snapshot!(printed.join("\n"), @r"
        step  101/1000  epoch 1.01  loss 0.9901  lr 1.50e-4
        step  200/1000  epoch 2.00  loss 0.5000  lr 1.50e-4  84.0 img/s  1:20 left
        step  300/1000  epoch 3.00  loss 0.3333  lr 1.50e-4  94.0 img/s  1:10 left
        step  400/1000  epoch 4.00  loss 0.2500  lr 1.50e-4  104 img/s  1:00 left
        step  500/1000  epoch 5.00  loss 0.2000  lr 1.50e-4  114 img/s  0:50 left
        step  600/1000  epoch 6.00  loss 0.1667  lr 1.50e-4  124 img/s  0:40 left
        step  700/1000  epoch 7.00  loss 0.1429  lr 1.50e-4  134 img/s  0:30 left
        step  800/1000  epoch 8.00  loss 0.1250  lr 1.50e-4  144 img/s  0:20 left
        step  900/1000  epoch 9.00  loss 0.1111  lr 1.50e-4  154 img/s  0:10 left
        step 1000/1000  epoch 10.00  loss 0.1000  lr 1.50e-4  164 img/s
        ");
    }

    #[test]
    fn short_epochs_do_not_flood_the_log() {
        let start = Instant::now();
        let mut lines = Lines::new(10_000, 0, 2, start);
        let report = StepReport { step: 0, epoch: 0.0, loss: 1.0, lr: 0.1, images_per_second: None };
        let printed = (1..10_000_u64)
            .filter(|&step| {
                lines.step(&StepReport { step, ..report }, start + Duration::from_millis(step)).is_some()
            })
            .count();
        assert!(printed <= 3, "{printed}");
    }

    #[test]
    fn the_template_of_the_bar_is_valid() {
        assert!(ProgressStyle::with_template(TEMPLATE).is_ok());
    }

    #[test]
    fn durations_are_as_long_as_needed() {
        assert_eq!([clock(7), clock(247), clock(7509)], ["0:07", "4:07", "2:05:09"]);
    }
}
