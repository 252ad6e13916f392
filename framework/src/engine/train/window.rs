//! Figures of training, averaged between two records.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::metrics::Throughput;

use super::queued::StepResult;

/// Over how long the throughput is averaged.
const THROUGHPUT_WINDOW: Duration = Duration::from_secs(20);

/// Sums over the steps since the last record; part of a checkpoint, so that records do not depend on where a
/// run stopped.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sums {
    steps: usize,
    figures: Vec<(String, f64)>,
}

/// The steps since the last record.
pub struct Window {
    sums: Sums,
    lr: f64,
    throughput: Throughput,
}

impl Window {
    /// A window that goes on from sums of an earlier session.
    pub fn new(sums: Sums) -> Self {
        Self { sums, lr: 0.0, throughput: Throughput::new(THROUGHPUT_WINDOW, Instant::now()) }
    }

    /// What is not recorded yet.
    pub fn sums(&self) -> &Sums {
        &self.sums
    }

    /// Takes in a step over a number of images.
    pub fn add(&mut self, step: &StepResult, images: usize) {
        self.sums.steps += 1;
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

    /// Leaves out of the throughput what was not training: an evaluation, a checkpoint.
    pub fn resume_clock(&mut self) {
        self.throughput.restart(Instant::now());
    }

    /// The means by name, with the last learning rate and the throughput; starts anew.
    pub fn take(&mut self) -> Vec<(String, f64)> {
        let Sums { steps, figures } = std::mem::take(&mut self.sums);
        let mean = |(name, sum): (String, f64)| (name, sum / steps.max(1) as f64);
        let mut figures: Vec<_> = figures.into_iter().map(mean).collect();
        figures.push(("lr".to_owned(), self.lr));
        figures.extend(self.images_per_second().map(|rate| ("images_per_second".to_owned(), rate)));
        figures
    }

    fn sum(&mut self, name: &str, value: f64) {
        match self.sums.figures.iter_mut().find(|(known, _)| known == name) {
            Some((_, sum)) => *sum += value,
            None => self.sums.figures.push((name.to_owned(), value)),
        }
    }
}
