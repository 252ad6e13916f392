//! What the processes of a run tell each other.

mod single;

pub use single::SingleProcess;

use crate::nn::backend::Values;

/// The processes that train one model together. Calls are collective: every process makes the same calls in
/// the same order.
pub trait Communicator {
    /// The number of this process, from 0.
    fn rank(&self) -> usize;

    /// How many processes there are.
    fn size(&self) -> usize;

    /// Returns once every process has come here.
    ///
    /// # Errors
    /// If a process cannot be reached; likewise below.
    fn barrier(&self) -> Result<(), CommunicationError>;

    /// Replaces `values`, as many in every process and where the device computes, by their sums over the processes: the same bits in all.
    ///
    /// # Errors
    /// See [`Communicator::barrier`].
    fn all_reduce(&self, values: &mut Values) -> Result<(), CommunicationError>;

    /// What every process gives, in order of rank.
    ///
    /// # Errors
    /// See [`Communicator::barrier`].
    fn all_gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, CommunicationError>;
}

/// A process cannot reach the others.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, miette::Diagnostic)]
#[error("process {rank} cannot reach the others: {reason}")]
pub struct CommunicationError {
    /// The process that says so.
    pub rank: usize,
    /// What the library that connects them says.
    pub reason: String,
}
