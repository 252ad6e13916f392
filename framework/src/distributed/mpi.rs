//! Processes that MPI connects. Nothing else of the program knows it.

use std::time::Duration;

use ferrompi::{ReduceOp, ThreadLevel};

use super::launch::Launch;
use super::tree::sum_parts;
use super::watchdog::Watchdog;
use super::{CommunicationError, Communicator, Reduction};
use crate::nn::backend::{Values, read, write};

/// Bytes that go out at once: enough for the network, little beside a model.
const BUCKET_BYTES: usize = 25 << 20;

/// By how much longer a process waits than the one before it: the first that gives up speaks for all, and ends them.
const LATER: Duration = Duration::from_secs(2);

/// All processes that were started together.
pub struct Mpi {
    world: ferrompi::Communicator,
    watchdog: Watchdog,
    /// MPI ends with it.
    environment: Option<ferrompi::Mpi>,
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
        // Threads compute; this one alone speaks.
        let environment = ferrompi::Mpi::init_thread(ThreadLevel::Funneled).map_err(|error| {
            CommunicationError::Unreachable { rank: launch.rank, reason: error.to_string() }
        })?;
        let limit = timeout + LATER * u32::try_from(launch.rank).unwrap_or(u32::MAX);
        let watchdog = Watchdog::new(limit, move || {
            give_up(CommunicationError::Lost { rank: launch.rank, seconds: limit.as_secs() });
        });
        let mpi = Self { world: environment.world(), watchdog, environment: Some(environment) };
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

    fn unreachable(&self, error: &ferrompi::Error) -> CommunicationError {
        CommunicationError::Unreachable { rank: self.rank(), reason: error.to_string() }
    }

    /// Replaces a bucket, a multiple of the number of processes long, by its sum. In order: every process adds up its part of all
    /// buckets, and hands it to the others.
    fn sum(&self, bucket: &mut [f32], reduction: Reduction, received: &mut [f32]) -> ferrompi::Result<()> {
        self.watchdog.watch(|| match reduction {
            Reduction::Fast => self.world.allreduce_inplace(bucket, ReduceOp::Sum),
            Reduction::Tree => {
                let part = bucket.len() / self.size();
                let received = &mut received[..bucket.len()];
                self.world.alltoall(bucket, received)?;
                sum_parts(received, part);
                self.world.allgather(&received[..part], bucket)
            }
        })
    }
}

impl Communicator for Mpi {
    fn rank(&self) -> usize {
        self.world.rank() as usize
    }

    fn size(&self) -> usize {
        self.world.size() as usize
    }

    fn all_reduce(&self, tensors: Vec<&mut Values>, reduction: Reduction) -> Result<(), CommunicationError> {
        let values: usize = tensors.iter().map(|values| values.len()).sum();
        let whole = BUCKET_BYTES / size_of::<f32>();
        let length = values.min(whole).div_ceil(self.size()) * self.size();
        let (mut bucket, mut received) = (vec![0.0; length], vec![0.0; length]);
        for mut tensors in buckets(tensors, whole) {
            // What does not fit into a bucket is a bucket.
            let own: usize = tensors.iter().map(|values| values.len()).sum();
            let padded = own.div_ceil(self.size()) * self.size();
            if padded > bucket.len() {
                bucket.resize(padded, 0.0);
                received.resize(padded, 0.0);
            }
            let mut start = 0;
            for values in &tensors {
                read(values, &mut bucket[start..start + values.len()])?;
                start += values.len();
            }
            bucket[start..padded].fill(0.0);
            self.sum(&mut bucket[..padded], reduction, &mut received)
                .map_err(|error| self.unreachable(&error))?;
            start = 0;
            for values in &mut tensors {
                write(values, &bucket[start..start + values.len()])?;
                start += values.len();
            }
        }
        Ok(())
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
        self.watchdog.watch(gather).map_err(|error: ferrompi::Error| self.unreachable(&error))
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

/// Tensors cut into parts of at most so many values, in order; one that has more is a part.
fn buckets(tensors: Vec<&mut Values>, most: usize) -> Vec<Vec<&mut Values>> {
    let mut buckets: Vec<Vec<&mut Values>> = Vec::new();
    let mut room = 0;
    for values in tensors {
        match buckets.last_mut() {
            Some(bucket) if values.len() <= room => {
                room -= values.len();
                bucket.push(values);
            }
            _ => {
                room = most.saturating_sub(values.len());
                buckets.push(vec![values]);
            }
        }
    }
    buckets
}
