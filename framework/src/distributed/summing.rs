//! A thread that adds up over all processes what it is given, while the others compute.

use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::{self, JoinHandle};

use ferrompi::{Communicator, ReduceOp, Result};

use super::Reduction;
use super::tree::sum_parts;

/// Adds up values over all processes, in the order in which they are given.
pub struct Summing {
    /// The thread ends with it.
    given: Option<Sender<Given>>,
    thread: Option<JoinHandle<()>>,
}

struct Given {
    values: Vec<f32>,
    reduction: Reduction,
    sum: Sender<Result<Vec<f32>>>,
}

/// A sum that was asked for.
pub struct Asked {
    sum: Receiver<Result<Vec<f32>>>,
    there: Option<Result<Vec<f32>>>,
}

impl Summing {
    /// With a communicator that nobody else uses.
    pub fn over(communicator: Communicator) -> Self {
        let (given, taken) = channel::<Given>();
        let thread = thread::spawn(move || {
            let mut received = Vec::new();
            for Given { mut values, reduction, sum } in taken {
                let done = add_up(&communicator, &mut values, reduction, &mut received);
                // Nobody asks any more where the run has failed.
                let _ = sum.send(done.map(|()| values));
            }
        });
        Self { given: Some(given), thread: Some(thread) }
    }

    /// Asks for a sum.
    pub fn ask(&self, values: Vec<f32>, reduction: Reduction) -> Asked {
        let (sum, receiver) = channel();
        if let Some(given) = &self.given {
            // Where the thread is gone the sum never comes, which is seen then.
            let _ = given.send(Given { values, reduction, sum });
        }
        Asked { sum: receiver, there: None }
    }
}

impl Drop for Summing {
    fn drop(&mut self) {
        drop(self.given.take());
        if let Some(thread) = self.thread.take() {
            // It has nothing to say.
            let _ = thread.join();
        }
    }
}

impl Asked {
    /// Whether there is something to be had without waiting.
    pub fn is_there(&mut self) -> bool {
        if self.there.is_none() {
            match self.sum.try_recv() {
                Ok(sum) => self.there = Some(sum),
                Err(TryRecvError::Empty) => return false,
                Err(TryRecvError::Disconnected) => {}
            }
        }
        true
    }

    /// The sum; `None` if the thread is gone.
    pub fn wait(self) -> Option<Result<Vec<f32>>> {
        self.there.or_else(|| self.sum.recv().ok())
    }
}

/// Replaces values by their sum. In order: every process adds up its part of all values, and hands it to the others.
fn add_up(
    communicator: &Communicator,
    values: &mut Vec<f32>,
    reduction: Reduction,
    received: &mut Vec<f32>,
) -> Result<()> {
    if reduction == Reduction::Fast {
        return communicator.allreduce_inplace(values, ReduceOp::Sum);
    }
    let (length, processes) = (values.len(), communicator.size() as usize);
    let part = length.div_ceil(processes);
    values.resize(part * processes, 0.0);
    received.resize(part * processes, 0.0);
    communicator.alltoall(values, received)?;
    sum_parts(received, part);
    communicator.allgather(&received[..part], values)?;
    values.truncate(length);
    Ok(())
}
