//! Processes that MPI connects. Nothing else of the program knows it.

use std::rc::Rc;
use std::time::Duration;

use ferrompi::ThreadLevel;

use super::launch::Launch;
use super::summing::{Asked, Summing};
use super::watchdog::Watchdog;
use super::{CommunicationError, Communicator, Pending, Reduction};

/// By how much longer a process waits than the one before it: the first that gives up speaks for all, and ends them.
const LATER: Duration = Duration::from_secs(2);

/// All processes that were started together.
pub struct Mpi {
    world: ferrompi::Communicator,
    summing: Summing,
    watchdog: Rc<Watchdog>,
    /// MPI ends with it.
    environment: Option<ferrompi::Mpi>,
}

/// A sum on its way.
struct MpiSum {
    asked: Asked,
    rank: usize,
    watchdog: Rc<Watchdog>,
}

impl Mpi {
    /// Meets the other processes. `give_up` is called where one has waited longer than `timeout` for the others.
    ///
    /// # Errors
    /// If MPI cannot be used, or knows of other processes than the launcher.
    pub fn start(
        launch: Launch,
        timeout: Duration,
        give_up: impl FnOnce(CommunicationError) + Send + 'static,
    ) -> Result<Self, CommunicationError> {
        let unreachable = |error: ferrompi::Error| unreachable(launch.rank, &error);
        // This thread speaks, and the one that adds up.
        let environment = ferrompi::Mpi::init_thread(ThreadLevel::Multiple).map_err(unreachable)?;
        if environment.thread_level() < ThreadLevel::Multiple {
            return Err(CommunicationError::Launch {
                message: format!(
                    "this MPI ({}) does not let two threads speak at once (MPI_THREAD_MULTIPLE)",
                    library().unwrap_or_default()
                ),
                help: "Open MPI and MPICH do; MVAPICH2 does with MV2_ENABLE_AFFINITY=0".to_owned(),
            });
        }
        let limit = timeout + LATER * u32::try_from(launch.rank).unwrap_or(u32::MAX);
        let watchdog = Watchdog::new(limit, move || {
            give_up(CommunicationError::Lost { rank: launch.rank, seconds: limit.as_secs() });
        });
        let world = environment.world();
        let summing = Summing::over(world.duplicate().map_err(unreachable)?);
        let mpi = Self { world, summing, watchdog: Rc::new(watchdog), environment: Some(environment) };
        if (mpi.rank(), mpi.size()) != (launch.rank, launch.size) {
            let message = format!(
                "started as process {} of {}, but the MPI of this program knows {}",
                launch.rank,
                launch.size,
                mpi.size()
            );
            let help = "start it with the `mpirun` of the library that it was built with (`convmae --version`), or `srun \
                        --mpi=pmix`";
            return Err(CommunicationError::Launch { message, help: help.to_owned() });
        }
        Ok(mpi)
    }
}

fn unreachable(rank: usize, error: &impl ToString) -> CommunicationError {
    CommunicationError::Unreachable { rank, reason: error.to_string() }
}

impl Pending for MpiSum {
    fn is_there(&mut self) -> bool {
        self.asked.is_there()
    }

    fn wait(self: Box<Self>) -> Result<Vec<f32>, CommunicationError> {
        let Self { asked, rank, watchdog } = *self;
        match watchdog.watch(|| asked.wait()) {
            Some(sum) => sum.map_err(|error| unreachable(rank, &error)),
            None => Err(unreachable(rank, &"the thread that speaks to them has ended")),
        }
    }
}

impl Communicator for Mpi {
    fn rank(&self) -> usize {
        self.world.rank() as usize
    }

    fn size(&self) -> usize {
        self.world.size() as usize
    }

    fn sum(&self, values: Vec<f32>, reduction: Reduction) -> Box<dyn Pending> {
        let (rank, watchdog) = (self.rank(), Rc::clone(&self.watchdog));
        Box::new(MpiSum { asked: self.summing.ask(values, reduction), rank, watchdog })
    }

    fn all_gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, CommunicationError> {
        let gather = || {
            let mut lengths = vec![0_u64; self.size()];
            self.world.allgather(&[bytes.len() as u64], &mut lengths)?;
            // As long as the longest: what processes tell each other is short.
            let longest = lengths.iter().max().map_or(0, |&length| length as usize).max(1);
            let mut own = bytes.to_vec();
            own.resize(longest, 0);
            let mut all = vec![0; longest * self.size()];
            self.world.allgather(&own, &mut all)?;
            let parts = all.chunks_exact(longest).zip(lengths);
            Ok(parts.map(|(part, length)| part[..length as usize].to_vec()).collect())
        };
        self.watchdog.watch(gather).map_err(|error: ferrompi::Error| unreachable(self.rank(), &error))
    }

    fn engine(&self) -> Option<String> {
        library()
    }
}

/// The library that this program was built with, and its version.
pub fn library() -> Option<String> {
    // Of several lines the first is the name.
    ferrompi::Mpi::library_version().ok()?.lines().next().map(|line| line.trim().to_owned())
}

impl Drop for Mpi {
    /// The others would wait for a process that panics. The end waits for them, too.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.world.abort(101);
        }
        let environment = self.environment.take();
        self.watchdog.watch(|| drop(environment));
    }
}
