//! Figures of training, averaged between two records.

use std::time::{Duration, Instant};

use crate::metrics::Throughput;

use super::trainer::StepResult;

/// Over how long the throughput is averaged.
const THROUGHPUT_WINDOW: Duration = Duration::from_secs(20);

/// The steps since the last record.
pub struct Window {
    steps: usize,
    sums: Vec<(String, f64)>,
    lr: f64,
    throughput: Throughput,
}

impl Window {
    /// A window without steps.
    pub fn new() -> Self {
        let throughput = Throughput::new(THROUGHPUT_WINDOW, Instant::now());
        Self { steps: 0, sums: Vec::new(), lr: 0.0, throughput }
    }

    /// Takes in a step over a number of images.
    pub fn add(&mut self, step: &StepResult, images: usize) {
        self.steps += 1;
        self.lr = step.lr;
        self.throughput.record(images, Instant::now());
        self.sum("loss", step.loss);
        self.sum("grad_norm", step.grad_norm);
        if step.losses.len() > 1 {
            for (name, loss) in &step.losses {
                self.sum(name, *loss);
            }
        }
    }

    /// Images per second lately.
    pub fn images_per_second(&self) -> Option<f64> {
        self.throughput.images_per_second()
    }

    /// The means by name, with the last learning rate and the throughput; starts a new window.
    pub fn take(&mut self) -> Vec<(String, f64)> {
        let steps = self.steps.max(1) as f64;
        let mut figures: Vec<_> = self.sums.drain(..).map(|(name, sum)| (name, sum / steps)).collect();
        figures.push(("lr".to_owned(), self.lr));
        figures.extend(self.images_per_second().map(|rate| ("images_per_second".to_owned(), rate)));
        self.steps = 0;
        figures
    }

    fn sum(&mut self, name: &str, value: f64) {
        match self.sums.iter_mut().find(|(known, _)| known == name) {
            Some((_, sum)) => *sum += value,
            None => self.sums.push((name.to_owned(), value)),
        }
    }
}
