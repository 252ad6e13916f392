//! What the processes of a run tell each other.

mod join;
pub mod launch;
#[cfg(feature = "mpi")]
mod mpi;
mod single;
#[cfg(feature = "mpi")]
mod summing;
pub mod tree;
#[cfg(feature = "mpi")]
mod watchdog;

pub use join::{engine, join};
pub use single::SingleProcess;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::nn;

/// The processes that train one model together. Calls are collective: every process makes the same calls in
/// the same order.
pub trait Communicator {
    /// The number of this process, from 0.
    fn rank(&self) -> usize;

    /// How many processes there are.
    fn size(&self) -> usize;

    /// Begins to add up values, as many in every process: the same bits in all. Sums are a sequence of calls of their own, which other
    /// calls may come in between of.
    fn sum(&self, values: Vec<f32>, reduction: Reduction) -> Box<dyn Pending>;

    /// What every process gives, in order of rank.
    ///
    /// # Errors
    /// If a process cannot be reached.
    fn all_gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, CommunicationError>;

    /// What connects the processes, with its version.
    fn engine(&self) -> Option<String>;

    /// Whether this is the process that writes and speaks for all.
    fn is_first(&self) -> bool {
        self.rank() == 0
    }
}

/// A sum over all processes that was begun. Every process has to wait for it.
pub trait Pending {
    /// Whether [`wait`](Self::wait) returns at once. One that is only computed there never says so.
    fn is_there(&mut self) -> bool;

    /// The sum.
    ///
    /// # Errors
    /// If a process cannot be reached.
    fn wait(self: Box<Self>) -> Result<Vec<f32>, CommunicationError>;
}

/// In which order what belongs to a step is added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reduction {
    /// Batch by batch in pairs, as a tree over all of a step: the same bits with 1, 2, 4, ... processes of one kind of
    /// machine. Keeps a gradient for every level of the tree.
    Tree,
    /// As it comes, and among processes as the library that connects them does it: equal up to rounding.
    Fast,
}

/// The processes cannot work together.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum CommunicationError {
    /// A process cannot reach the others.
    #[error("process {rank} cannot reach the others: {reason}")]
    Unreachable {
        /// The process that says so.
        rank: usize,
        /// What the library that connects them says.
        reason: String,
    },
    /// A process has waited in vain.
    #[error(
        "process {rank} has waited {seconds} s for the others: one of them hangs, or its machine is gone"
    )]
    #[diagnostic(help(
        "all are ended; a run goes on from its last checkpoint with `--resume`, and `--timeout` lets them wait longer"
    ))]
    Lost {
        /// The process that says so.
        rank: usize,
        /// How long it has waited.
        seconds: u64,
    },
    /// What started the processes and this program do not fit.
    #[error("{message}")]
    Launch {
        /// What does not fit.
        message: String,
        /// What would.
        #[help]
        help: String,
    },
    /// What this process adds up cannot be had of its device.
    #[error(transparent)]
    Device(#[from] nn::Error),
}
