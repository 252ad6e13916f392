//! How a process meets those that it was started with.

use std::rc::Rc;
use std::time::Duration;

use super::launch::Launch;
use super::{CommunicationError, Communicator, SingleProcess};

/// The processes that were started together with this one, as the launcher tells; without one, this process alone. One that waits longer
/// than `timeout` for the others calls `give_up`, on a thread of its own.
///
/// # Errors
/// If the program cannot reach others.
pub fn join(
    launch: Option<Launch>,
    timeout: Duration,
    give_up: impl FnOnce(CommunicationError) + Send + 'static,
) -> Result<Rc<dyn Communicator>, CommunicationError> {
    match launch {
        None => Ok(Rc::new(SingleProcess)),
        Some(launch) => reach(launch, timeout, give_up),
    }
}

#[cfg(feature = "mpi")]
fn reach(
    launch: Launch,
    timeout: Duration,
    give_up: impl FnOnce(CommunicationError) + Send + 'static,
) -> Result<Rc<dyn Communicator>, CommunicationError> {
    Ok(Rc::new(super::mpi::Mpi::start(launch, timeout, give_up)?))
}

/// What connects the processes of this program, if anything does: `Open MPI v5.0.7, ..`.
pub fn engine() -> Option<String> {
    #[cfg(feature = "mpi")]
    return super::mpi::library();
    #[cfg(not(feature = "mpi"))]
    None
}

#[cfg(not(feature = "mpi"))]
fn reach(
    launch: Launch,
    _: Duration,
    _: impl FnOnce(CommunicationError) + Send + 'static,
) -> Result<Rc<dyn Communicator>, CommunicationError> {
    Err(CommunicationError::Launch {
        message: format!(
            "started with {} processes, but this program knows no others: each would train for itself",
            launch.size
        ),
        help: "build it with `--features mpi`, or start it without `mpirun` and `srun`".to_owned(),
    })
}
