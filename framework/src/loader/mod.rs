//! Batches of an epoch, read ahead by worker threads.
//!
//! Which samples a batch holds, and every pixel of them, depends on seed, epoch and position only: workers
//! race for work, not for content. Corrupt samples are judged by the consumer, batch by batch, so that even
//! that failure comes at the same place.

mod pipeline;
mod queue;
mod share;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use serde::{Deserialize, Serialize};

use crate::data::{Batch, DataError, Sample};
pub use pipeline::{Pipeline, output_shape};
use queue::{Claim, Queue};
pub use share::Share;

/// How an epoch is cut into batches, and how it is read.
#[derive(Debug, Clone, PartialEq)]
pub struct LoaderOptions {
    /// Samples in a batch, at least 1.
    pub batch_size: usize,
    /// Threads that read and transform, at least 1.
    pub workers: usize,
    /// Batches being prepared or ready while one is used, at least 1.
    pub prefetch: usize,
    /// Whether samples come in the dataset's order for the epoch, or as they are stored.
    pub shuffle: bool,
    /// Whether an incomplete batch at the end is left out.
    pub drop_last: bool,
    /// The fraction of the dataset's samples that may be corrupt; one may in any case, unless it is 0.
    pub max_corrupt: f64,
}

impl LoaderOptions {
    /// Shuffled, complete batches only.
    pub fn train(batch_size: usize) -> Self {
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        Self { batch_size, workers, prefetch: 2, shuffle: true, drop_last: true, max_corrupt: 0.01 }
    }

    /// Every sample once, in the order of the dataset.
    pub fn evaluate(batch_size: usize) -> Self {
        Self { shuffle: false, drop_last: false, ..Self::train(batch_size) }
    }
}

/// A sample that could not be decoded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CorruptSample {
    /// Its index in the dataset.
    pub index: usize,
    /// The file, with its place within an archive where it has one.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

/// That there is a batch.
///
/// # Errors
/// What is missing to it.
pub fn check_length(length: usize, batch_size: usize, drop_last: bool) -> Result<(), DataError> {
    match length {
        0 => Err(DataError::Transform("the dataset has no samples".to_owned())),
        _ if drop_last && length < batch_size => Err(DataError::Transform(format!(
            "the dataset has {length} samples, fewer than one batch of {batch_size}: lower `batch_size`, or set \
             `train.drop_last: false`"
        ))),
        _ => Ok(()),
    }
}

/// How many of so many samples may be corrupt.
pub fn most_corrupt(length: usize, max_corrupt: f64) -> usize {
    if max_corrupt > 0.0 { (max_corrupt * length as f64).max(1.0) as usize } else { 0 }
}

/// Batches of a dataset, epoch by epoch.
pub struct Loader {
    pipeline: Arc<Pipeline>,
    options: LoaderOptions,
    corrupt: Arc<Mutex<BTreeMap<usize, CorruptSample>>>,
}

impl Loader {
    /// A loader over `pipeline`. Nothing is read yet.
    ///
    /// # Errors
    /// [`DataError::Transform`] if an epoch would have no batch, or an option has no meaning.
    pub fn new(pipeline: Arc<Pipeline>, options: LoaderOptions) -> Result<Self, DataError> {
        let length = pipeline.samples.len();
        let LoaderOptions { batch_size, workers, prefetch, max_corrupt, .. } = options;
        for (name, value) in [("batch_size", batch_size), ("workers", workers), ("prefetch", prefetch)] {
            if value == 0 {
                return Err(DataError::Transform(format!("`{name}` is 0; at least 1 is needed")));
            }
        }
        if !(0.0..=1.0).contains(&max_corrupt) {
            return Err(DataError::Transform(format!(
                "`max_corrupt` is {max_corrupt}; it is a fraction, 0 to 1"
            )));
        }
        check_length(length, batch_size, options.drop_last)?;
        Ok(Self { pipeline, options, corrupt: Arc::default() })
    }

    /// Number of batches of an epoch.
    pub fn batches(&self) -> usize {
        let length = self.pipeline.samples.len();
        if self.options.drop_last {
            length / self.options.batch_size
        } else {
            length.div_ceil(self.options.batch_size)
        }
    }

    /// Samples in a batch; the last one may have fewer.
    pub fn batch_size(&self) -> usize {
        self.options.batch_size
    }

    /// Where samples come from.
    pub fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    /// The batches of an epoch from number `from_batch` on; those before are not read. Ends after the first
    /// error.
    pub fn epoch(&self, epoch: u64, from_batch: usize) -> Epoch {
        self.epoch_of(Share::ALL, epoch, from_batch)
    }

    /// [`epoch`](Self::epoch), of a process that takes a share of the batches.
    pub fn epoch_of(&self, share: Share, epoch: u64, from_batch: usize) -> Epoch {
        let length = self.pipeline.samples.len();
        let order = if self.options.shuffle {
            self.pipeline.samples.order(self.pipeline.seed, epoch)
        } else {
            (0..length).collect()
        };
        let broken = (order.len() != length).then(|| {
            let reason = format!("the dataset has {length} samples, but its order names {}", order.len());
            DataError::Transform(reason)
        });
        let max_corrupt = self.options.max_corrupt;
        let limit = most_corrupt(length, max_corrupt);
        let (batch_size, batches) = (self.options.batch_size, self.batches());
        let numbers: Vec<_> = (from_batch..batches).filter(|&number| share.has(number)).collect();
        let positions = |&number: &usize| number * batch_size..length.min((number + 1) * batch_size);
        let order: Vec<_> = match broken {
            None => numbers.iter().flat_map(positions).map(|position| order[position]).collect(),
            Some(_) => Vec::new(),
        };
        let reader = Arc::new(EpochReader {
            pipeline: Arc::clone(&self.pipeline),
            epoch,
            queue: Queue::new(order.len(), batch_size, self.options.prefetch),
            order,
            numbers,
            limit,
        });
        let spawn = |number: usize| {
            let reader = Arc::clone(&reader);
            let name = format!("loader-{number}");
            std::thread::Builder::new().name(name).spawn(move || reader.work())
        };
        let mut epoch = Epoch {
            reader: Arc::clone(&reader),
            threads: Vec::new(),
            corrupt: Arc::clone(&self.corrupt),
            broken,
            ahead: None,
        };
        let workers = if epoch.broken.is_some() { 0 } else { self.options.workers };
        for number in 0..workers {
            match spawn(number) {
                Ok(thread) => epoch.threads.push(thread),
                Err(source) => {
                    epoch.broken = Some(DataError::Io { path: "thread of the loader".into(), source });
                }
            }
        }
        epoch
    }

    /// Counts samples that were found corrupt before, in an earlier session of the run, or by another process.
    pub fn remember_corrupt(&self, samples: Vec<CorruptSample>) {
        lock(&self.corrupt).extend(samples.into_iter().map(|sample| (sample.index, sample)));
    }

    /// That no more samples are corrupt than may be.
    ///
    /// # Errors
    /// How many are.
    pub fn check_corrupt(&self) -> Result<(), DataError> {
        let (known, length) = (lock(&self.corrupt), self.pipeline.samples.len());
        let limit = most_corrupt(length, self.options.max_corrupt);
        if known.len() > limit { Err(too_many_corrupt(known.values(), length, limit)) } else { Ok(()) }
    }

    /// The corrupt samples met so far, by index.
    pub fn corrupt(&self) -> Vec<CorruptSample> {
        lock(&self.corrupt).values().cloned().collect()
    }
}

/// What a worker made of one position, or of a whole batch.
struct Read<T> {
    result: Result<T, DataError>,
    corrupt: Vec<CorruptSample>,
}

/// What the workers of an epoch share.
struct EpochReader {
    pipeline: Arc<Pipeline>,
    epoch: u64,
    /// The samples to read, batch after batch.
    order: Vec<usize>,
    /// The numbers of these batches in the epoch.
    numbers: Vec<usize>,
    limit: usize,
    queue: Queue<Read<Sample>, Read<Batch>>,
}

impl EpochReader {
    fn work(&self) {
        while let Some(claim) = self.queue.claim() {
            let read = self.read(&claim);
            if let Some(parts) = self.queue.deposit(&claim, read) {
                self.queue.finish(&claim, self.stack(self.numbers[claim.group], parts));
            }
        }
    }

    /// Reads the sample at a position; in place of a corrupt one the next in the dataset.
    fn read(&self, claim: &Claim) -> Read<Sample> {
        let length = self.pipeline.samples.len();
        let mut corrupt = Vec::new();
        for step in 0..length.min(self.limit + 1) {
            let index = (self.order[claim.position] + step) % length;
            match self.pipeline.part(self.epoch, index) {
                Err(DataError::Corrupt { path, reason }) => {
                    corrupt.push(CorruptSample { index, path, reason });
                }
                result => return Read { result, corrupt },
            }
        }
        Read { result: Err(self.too_many(corrupt.iter())), corrupt }
    }

    /// Makes batch `number` of its samples.
    fn stack(&self, number: usize, parts: Vec<Read<Sample>>) -> Read<Batch> {
        // All that is corrupt counts, whichever sample's error comes first.
        let (results, corrupt): (Vec<_>, Vec<_>) =
            parts.into_iter().map(|part| (part.result, part.corrupt)).unzip();
        let samples: Result<Vec<_>, _> = results.into_iter().collect();
        // Without a result for the batch, the consumer would wait for ever.
        let result = samples.and_then(|samples| self.pipeline.stack(samples, self.epoch, number));
        Read { result, corrupt: corrupt.concat() }
    }

    fn too_many<'a>(&self, corrupt: impl ExactSizeIterator<Item = &'a CorruptSample>) -> DataError {
        too_many_corrupt(corrupt, self.pipeline.samples.len(), self.limit)
    }
}

fn too_many_corrupt<'a>(
    corrupt: impl ExactSizeIterator<Item = &'a CorruptSample>,
    length: usize,
    limit: usize,
) -> DataError {
    let count = corrupt.len();
    let first: Vec<_> =
        corrupt.take(3).map(|sample| format!("{}: {}", sample.path.display(), sample.reason)).collect();
    let first = first.join("; ");
    match count == length {
        true => DataError::AllCorrupt { length, first },
        false => DataError::TooManyCorrupt { count, length, limit, first },
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The batches of one epoch. Dropping it ends its threads.
pub struct Epoch {
    reader: Arc<EpochReader>,
    threads: Vec<JoinHandle<()>>,
    corrupt: Arc<Mutex<BTreeMap<usize, CorruptSample>>>,
    broken: Option<DataError>,
    /// What [`Epoch::ready`] took from the queue.
    ahead: Option<Read<Batch>>,
}

impl Epoch {
    /// The batch that comes next, if it is ready. What is corrupt in it counts when it is handed out.
    pub fn ready(&mut self) -> Option<&Batch> {
        if self.ahead.is_none() && self.broken.is_none() {
            self.ahead = self.reader.queue.try_next();
        }
        self.ahead.as_ref()?.result.as_ref().ok()
    }

    /// Logs corrupt samples that are new; an error if they are too many by now.
    fn judge(&self, corrupt: Vec<CorruptSample>) -> Result<(), DataError> {
        let mut known = lock(&self.corrupt);
        for sample in corrupt {
            if let Entry::Vacant(entry) = known.entry(sample.index) {
                let CorruptSample { index, path, reason } = entry.insert(sample);
                tracing::warn!(index, path = %path.display(), reason, "corrupt sample, replaced by the next one");
            }
        }
        if known.len() > self.reader.limit { Err(self.reader.too_many(known.values())) } else { Ok(()) }
    }
}

impl Iterator for Epoch {
    type Item = Result<Batch, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        let result = if let Some(error) = self.broken.take() {
            Err(error)
        } else {
            let read = self.ahead.take().or_else(|| self.reader.queue.next())?;
            self.judge(read.corrupt).and(read.result)
        };
        if result.is_err() {
            self.reader.queue.stop();
        }
        Some(result)
    }
}

impl Drop for Epoch {
    fn drop(&mut self) {
        self.reader.queue.stop();
        for thread in self.threads.drain(..) {
            // A worker's panic was reported as the error of its sample.
            let _ = thread.join();
        }
    }
}
