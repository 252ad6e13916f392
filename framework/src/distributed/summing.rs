//! A thread that adds up over all processes what it is given, while the others compute.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ferrompi::{Communicator, ReduceOp, Request, Result};

use super::Reduction;
use super::tree::sum_parts;

/// How long the thread leaves the processor to those who compute before it looks at the network again.
const REST: Duration = Duration::from_micros(100);

/// Adds up values over all processes, in the order in which they are given.
pub struct Summing {
    /// The thread ends with it.
    given: Option<Sender<Given>>,
    thread: Option<JoinHandle<()>>,
    /// Whether somebody does nothing but wait for a sum.
    awaited: Arc<AtomicBool>,
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
    awaited: Arc<AtomicBool>,
}

/// The processes, and who waits.
struct Network {
    communicator: Communicator,
    awaited: Arc<AtomicBool>,
    /// Of the values that the others send; its memory stays.
    received: Vec<f32>,
}

impl Summing {
    /// With a communicator that nobody else uses.
    pub fn over(communicator: Communicator) -> Self {
        let (given, taken) = channel::<Given>();
        let awaited = Arc::<AtomicBool>::default();
        let mut network = Network { communicator, awaited: Arc::clone(&awaited), received: Vec::new() };
        let thread = thread::spawn(move || {
            for Given { mut values, reduction, sum } in taken {
                let done = network.add_up(&mut values, reduction);
                // Nobody asks any more where the run has failed.
                let _ = sum.send(done.map(|()| values));
            }
        });
        Self { given: Some(given), thread: Some(thread), awaited }
    }

    /// Asks for a sum.
    pub fn ask(&self, values: Vec<f32>, reduction: Reduction) -> Asked {
        let (sum, receiver) = channel();
        if let Some(given) = &self.given {
            // Where the thread is gone the sum never comes, which is seen then.
            let _ = given.send(Given { values, reduction, sum });
        }
        Asked { sum: receiver, there: None, awaited: Arc::clone(&self.awaited) }
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
        self.there.or_else(|| {
            self.awaited.store(true, Ordering::Relaxed);
            let sum = self.sum.recv().ok();
            self.awaited.store(false, Ordering::Relaxed);
            sum
        })
    }
}

impl Network {
    /// Replaces values by their sum. In order: every process adds up its part of all values, and hands it to the others.
    fn add_up(&mut self, values: &mut Vec<f32>, reduction: Reduction) -> Result<()> {
        let Self { communicator, awaited, received } = self;
        if reduction == Reduction::Fast {
            return ferrompi::scope(|scope| {
                complete(communicator.iallreduce_inplace(scope, values, ReduceOp::Sum)?, awaited)
            });
        }
        let (length, processes) = (values.len(), communicator.size() as usize);
        let part = length.div_ceil(processes);
        values.resize(part * processes, 0.0);
        received.resize(part * processes, 0.0);
        ferrompi::scope(|scope| complete(communicator.ialltoall(scope, values, received)?, awaited))?;
        sum_parts(received, part);
        let own = &received[..part];
        ferrompi::scope(|scope| complete(communicator.iallgather(scope, own, values)?, awaited))?;
        values.truncate(length);
        Ok(())
    }
}

/// Waits for the network. A call of MPI that waits keeps a processor busy: it is made where nobody computes meanwhile.
fn complete(mut request: Request<'_>, awaited: &AtomicBool) -> Result<()> {
    while !awaited.load(Ordering::Relaxed) {
        if request.test()?.is_some() {
            return Ok(());
        }
        thread::sleep(REST);
    }
    request.wait().map(drop)
}
