#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rand::Rng as _;
use serde::{Deserialize, Serialize};

use super::*;
use crate::component::{Problem, SampleShape, Samples, Transform};
use crate::data::{Normalization, Original, Pixels, Target};
use crate::random::Rng;

/// Samples whose only pixel is their index; some are faulty.
#[derive(Default)]
struct Numbers {
    length: usize,
    corrupt: Vec<usize>,
    panics: Option<usize>,
    fails: Option<usize>,
    wide: Option<usize>,
    reads: Arc<AtomicUsize>,
}

impl Samples for Numbers {
    fn len(&self) -> usize {
        self.length
    }

    fn get(&self, index: usize) -> Result<Sample, DataError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        // Workers overtake each other.
        std::thread::sleep(Duration::from_micros((index as u64 * 37) % 300));
        let path = PathBuf::from(format!("{index}.jpg"));
        assert!(self.panics != Some(index), "no such plane");
        if self.fails == Some(index) {
            return Err(DataError::Io { path, source: std::io::Error::other("disk on fire") });
        }
        if self.corrupt.contains(&index) {
            return Err(DataError::Corrupt { path, reason: "not an image".to_owned() });
        }
        let width = if self.wide == Some(index) { 2 } else { 1 };
        let normalization = Normalization::identity(3);
        let values = vec![index as f32; 3 * width];
        let pixels = Pixels::Normalized { values, height: 1, width, normalization };
        let id = format!("{index}.jpg");
        Ok(Sample {
            id,
            pixels,
            target: Target::default(),
            original: Original { size: [1, width], ..Original::default() },
        })
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct AddNoise;

#[typetag::serde]
impl Transform for AddNoise {
    fn apply(&self, mut sample: Sample, rng: &mut Rng) -> Result<Sample, DataError> {
        if let Pixels::Normalized { values, .. } = &mut sample.pixels {
            for value in values {
                *value += rng.random::<f32>();
            }
        }
        Ok(sample)
    }

    fn output(&self, input: SampleShape) -> Result<SampleShape, Problem> {
        Ok(input)
    }
}

fn loader(samples: Numbers, options: LoaderOptions) -> Loader {
    let pipeline = Pipeline {
        samples: Box::new(samples),
        transforms: vec![Box::new(AddNoise)],
        batch_transforms: Vec::new(),
        pad_to: None,
        channels: 3,
        seed: 7,
    };
    Loader::new(Arc::new(pipeline), options).unwrap()
}

fn numbers(length: usize) -> Numbers {
    Numbers { length, ..Numbers::default() }
}

fn read(loader: &Loader, epoch: u64, from_batch: usize) -> Vec<Batch> {
    loader.epoch(epoch, from_batch).collect::<Result<_, _>>().unwrap()
}

fn images(batches: &[Batch]) -> Vec<Vec<f32>> {
    batches.iter().map(|batch| batch.images.values().into_owned()).collect()
}

fn first_error(loader: &Loader) -> String {
    let mut epoch = loader.epoch(0, 0);
    let error = epoch.find_map(Result::err).unwrap().to_string();
    assert!(epoch.next().is_none(), "nothing comes after an error");
    error
}

#[test]
fn batches_do_not_depend_on_the_number_of_workers() {
    let options = LoaderOptions::train(4);
    let expected = images(&read(&loader(numbers(30), LoaderOptions { workers: 1, ..options.clone() }), 3, 0));
    assert_eq!(expected.len(), 7);
    for workers in 2..=4 {
        let options = LoaderOptions { workers, prefetch: workers, ..options.clone() };
        assert_eq!(images(&read(&loader(numbers(30), options), 3, 0)), expected);
    }
}

#[test]
fn an_epoch_resumes_at_any_batch_without_reading_those_before() {
    let samples = numbers(30);
    let reads = Arc::clone(&samples.reads);
    let loader = loader(samples, LoaderOptions { workers: 3, ..LoaderOptions::train(4) });
    let expected = images(&read(&loader, 1, 0));
    for from in 0..=7 {
        reads.store(0, Ordering::Relaxed);
        assert_eq!(images(&read(&loader, 1, from)), expected[from..]);
        assert_eq!(reads.load(Ordering::Relaxed), (7 - from) * 4);
    }
    assert!(read(&loader, 1, 100).is_empty());
}

#[test]
fn a_batch_that_is_looked_at_before_comes_next_all_the_same() {
    let loader = loader(numbers(30), LoaderOptions::train(4));
    let expected = images(&read(&loader, 1, 0));
    let mut epoch = loader.epoch(1, 0);
    let (mut seen, mut looked_at) = (Vec::new(), 0);
    while let Some(batch) = epoch.next() {
        seen.push(batch.unwrap());
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while seen.len() < expected.len() && std::time::Instant::now() < deadline {
            if let Some(next) = epoch.ready() {
                assert_eq!(*next.images.values(), expected[seen.len()]);
                looked_at += 1;
                break;
            }
        }
    }
    assert_eq!((images(&seen), looked_at), (expected.clone(), expected.len() - 1));
}

#[test]
fn epochs_differ_in_order_and_augmentation() {
    let loader = loader(numbers(8), LoaderOptions::train(8));
    let (first, second) = (read(&loader, 0, 0), read(&loader, 1, 0));
    assert_ne!(first[0].ids, second[0].ids);
    let mut values: Vec<_> =
        [&first, &second].iter().map(|batches| batches[0].images.values().into_owned()).collect();
    for values in &mut values {
        values.sort_by(f32::total_cmp);
    }
    assert_ne!(values[0], values[1]);
}

#[test]
fn evaluation_sees_every_sample_once_in_order() {
    let loader = loader(numbers(10), LoaderOptions::evaluate(4));
    let batches = read(&loader, 0, 0);
    assert_eq!(loader.batches(), 3);
    let ids: Vec<_> = batches.iter().flat_map(|batch| batch.ids.clone()).collect();
    assert_eq!(ids, (0..10).map(|index| format!("{index}.jpg")).collect::<Vec<_>>());
    assert_eq!(batches[2].len(), 2);
}

#[test]
fn a_corrupt_sample_is_replaced_by_the_next_and_reported_once() {
    let samples = Numbers { corrupt: vec![3, 9], ..numbers(10) };
    let loader = loader(samples, LoaderOptions { max_corrupt: 0.2, ..LoaderOptions::evaluate(5) });
    for epoch in 0..2 {
        let batches = read(&loader, epoch, 0);
        assert_eq!(batches[0].ids, ["0.jpg", "1.jpg", "2.jpg", "4.jpg", "4.jpg"]);
        assert_eq!(batches[1].ids, ["5.jpg", "6.jpg", "7.jpg", "8.jpg", "0.jpg"]);
    }
    let corrupt = loader.corrupt();
    assert_eq!(corrupt.iter().map(|sample| sample.index).collect::<Vec<_>>(), [3, 9]);
    assert_eq!(corrupt[0].reason, "not an image");
}

#[test]
fn one_corrupt_sample_is_tolerated_unless_none_may_be() {
    let samples = || Numbers { corrupt: vec![3], ..numbers(10) };
    assert_eq!(read(&loader(samples(), LoaderOptions::evaluate(5)), 0, 0).len(), 2);
    let none = LoaderOptions { max_corrupt: 0.0, ..LoaderOptions::evaluate(5) };
    assert_eq!(
        first_error(&loader(samples(), none)),
        "1 of 10 samples are corrupt, `max_corrupt` allows 0; the first: 3.jpg: not an image"
    );
}

#[test]
fn too_many_corrupt_samples_fail_at_the_same_batch_with_any_number_of_workers() {
    for workers in 1..=4 {
        let samples = Numbers { corrupt: vec![1, 6, 8], ..numbers(12) };
        let options = LoaderOptions { workers, prefetch: 4, ..LoaderOptions::evaluate(3) };
        let results: Vec<_> = loader(samples, options).epoch(0, 0).collect();
        assert_eq!(results.len(), 3);
        assert_eq!(
            results[2].as_ref().unwrap_err().to_string(),
            "3 of 12 samples are corrupt, `max_corrupt` allows 1; the first: 1.jpg: not an image; 6.jpg: not an image; \
             8.jpg: not an image"
        );
    }
}

#[test]
fn a_dataset_of_nothing_but_corrupt_samples_fails() {
    let samples = Numbers { corrupt: (0..5).collect(), ..numbers(5) };
    let error = first_error(&loader(samples, LoaderOptions { max_corrupt: 1.0, ..LoaderOptions::train(2) }));
    assert!(error.starts_with("all samples of the dataset are corrupt (5); the first: 0.jpg"), "{error}");
}

#[test]
fn a_panic_in_a_worker_is_an_error_of_its_sample() {
    let error = first_error(&loader(Numbers { panics: Some(5), ..numbers(12) }, LoaderOptions::evaluate(3)));
    assert_eq!(error, "sample 5: the data pipeline panicked: no such plane");
}

#[test]
fn an_io_error_ends_the_epoch() {
    let error = first_error(&loader(Numbers { fails: Some(5), ..numbers(12) }, LoaderOptions::train(3)));
    assert_eq!(error, "5.jpg: disk on fire");
}

#[test]
fn images_of_unequal_size_are_an_error() {
    let error = first_error(&loader(Numbers { wide: Some(1), ..numbers(4) }, LoaderOptions::evaluate(2)));
    assert!(error.contains("0.jpg is 1 x 1, 1.jpg is 1 x 2"), "{error}");
}

#[test]
fn dropping_an_epoch_ends_its_threads() {
    let samples = numbers(1000);
    let reads = Arc::clone(&samples.reads);
    let loader = loader(samples, LoaderOptions { workers: 3, ..LoaderOptions::train(10) });
    let mut epoch = loader.epoch(0, 0);
    epoch.next().unwrap().unwrap();
    drop(epoch);
    let after = reads.load(Ordering::Relaxed);
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(reads.load(Ordering::Relaxed), after);
    assert!(after <= 40, "at most two batches ahead: {after}");
}

#[test]
fn options_without_a_batch_are_refused() {
    let refused = |length, options| {
        let pipeline = Pipeline {
            samples: Box::new(numbers(length)),
            transforms: Vec::new(),
            batch_transforms: Vec::new(),
            pad_to: None,
            channels: 3,
            seed: 0,
        };
        Loader::new(Arc::new(pipeline), options).err().unwrap().to_string()
    };
    assert_eq!(refused(0, LoaderOptions::evaluate(1)), "the dataset has no samples");
    assert!(refused(3, LoaderOptions::train(4)).contains("fewer than one batch of 4"));
    assert_eq!(refused(3, LoaderOptions::train(0)), "`batch_size` is 0; at least 1 is needed");
    let negative = LoaderOptions { max_corrupt: -0.1, ..LoaderOptions::train(1) };
    assert!(refused(3, negative).contains("`max_corrupt` is -0.1"));
}
