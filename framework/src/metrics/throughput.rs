//! How many images a second.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Images a second over the last seconds, so that a slow start or an evaluation does not stay in the figure.
#[derive(Debug, Clone)]
pub struct Throughput {
    window: Duration,
    /// When a step ended, and how many images it took.
    steps: VecDeque<(Instant, usize)>,
}

impl Throughput {
    /// Starts measuring at `now`, averaging over `window`.
    pub fn new(window: Duration, now: Instant) -> Self {
        Self { window, steps: VecDeque::from([(now, 0)]) }
    }

    /// A step of `images` ended at `now`.
    pub fn record(&mut self, images: usize, now: Instant) {
        self.steps.push_back((now, images));
        // The oldest entry only marks where the window begins, so a step longer than the window still counts.
        while self.steps.len() > 2 && now.duration_since(self.steps[1].0) >= self.window {
            self.steps.pop_front();
        }
    }

    /// Goes on at `now` after a pause (an evaluation, a checkpoint) that is not to be counted.
    pub fn restart(&mut self, now: Instant) {
        self.steps.clear();
        self.steps.push_back((now, 0));
    }

    /// Images a second over the window; `None` before the first step.
    pub fn images_per_second(&self) -> Option<f64> {
        let (start, end) = (self.steps.front()?.0, self.steps.back()?.0);
        let images: usize = self.steps.iter().skip(1).map(|step| step.1).sum();
        let seconds = end.duration_since(start).as_secs_f64();
        (seconds > 0.0).then(|| images as f64 / seconds)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_rate_forgets_what_is_older_than_the_window() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut meter = Throughput::new(Duration::from_secs(10), start);
        assert_eq!(meter.images_per_second(), None);
        meter.record(64, at(64));
        assert_eq!(meter.images_per_second(), Some(1.0));
        for second in 65..=84 {
            meter.record(8, at(second));
        }
        assert!((meter.images_per_second().unwrap() - 8.0).abs() < 1e-9);
    }

    #[test]
    fn a_pause_is_not_counted() {
        let start = Instant::now();
        let mut meter = Throughput::new(Duration::from_secs(10), start);
        meter.record(4, start + Duration::from_secs(1));
        meter.restart(start + Duration::from_secs(100));
        assert_eq!(meter.images_per_second(), None);
        meter.record(4, start + Duration::from_secs(101));
        assert_eq!(meter.images_per_second(), Some(4.0));
    }
}
