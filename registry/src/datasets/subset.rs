//! Stratified subsets of a dataset.

use std::collections::BTreeMap;

use convmae_framework::component::{Dataset, Samples, TaskKind};
use convmae_framework::data::{DataError, PassedOver, Sample};
use convmae_framework::random::{self, Purpose};
use rand::seq::index;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A subset of another dataset: so many samples of every class, or a fraction of every class. For experiments
/// with few labels. The other dataset must know classes without reading images, as `ImageFolder` does.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Subset {
    /// The whole dataset.
    #[schemars(extend("examples" = [{ "type": "ImageFolder", "root": "data/imagenet", "split": "train" }]))]
    pub dataset: Box<dyn Dataset>,
    /// Samples of every class. Either this or `fraction`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1), extend("examples" = [50]))]
    pub per_class: Option<usize>,
    /// Fraction of every class, rounded, but at least one sample. Either this or `per_class`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0.0))]
    pub fraction: Option<f64>,
    /// Seed of the choice, apart from the recipe's: runs that differ in that one see the same samples.
    #[serde(default)]
    pub seed: u64,
}

#[typetag::serde]
impl Dataset for Subset {
    fn open(&self) -> Result<Box<dyn Samples>, DataError> {
        let share = Share::new(self.per_class, self.fraction)?;
        let samples = self.dataset.open()?;
        let chosen = choose(samples.as_ref(), share, self.seed)?;
        Ok(Box::new(Chosen { samples, chosen }))
    }
}

convmae_framework::register!(Dataset: Subset);

/// How much of every class is taken.
#[derive(Debug, Clone, Copy)]
enum Share {
    Count(usize),
    Fraction(f64),
}

impl Share {
    fn new(per_class: Option<usize>, fraction: Option<f64>) -> Result<Self, DataError> {
        match (per_class, fraction) {
            (Some(count), None) if count > 0 => Ok(Self::Count(count)),
            (None, Some(fraction)) if 0.0 < fraction && fraction <= 1.0 => Ok(Self::Fraction(fraction)),
            (Some(_), None) => Err(invalid("`per_class` is 0; at least 1")),
            (None, Some(fraction)) => {
                Err(invalid(format!("`fraction` is {fraction}; above 0 and at most 1, such as 0.1")))
            }
            (None, None) => Err(invalid("how much? set `per_class: 50` or `fraction: 0.1`")),
            (Some(_), Some(_)) => {
                Err(invalid("`per_class` and `fraction` exclude each other; leave out one of them"))
            }
        }
    }

    /// The number of samples to take of a class.
    fn of(self, length: usize) -> usize {
        match self {
            Self::Count(count) => count,
            Self::Fraction(fraction) => ((length as f64 * fraction).round() as usize).clamp(1, length),
        }
    }
}

fn invalid(reason: impl Into<String>) -> DataError {
    DataError::Invalid { path: "Subset".into(), reason: reason.into() }
}

/// The indices of a part of every class, drawn by seed and class; in ascending order.
fn choose(samples: &dyn Samples, share: Share, seed: u64) -> Result<Vec<usize>, DataError> {
    let mut members: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for index in 0..samples.len() {
        let Some(class) = samples.class(index) else {
            return Err(invalid(
                "`dataset` does not know classes without reading images; `ImageFolder` with `labelled: true` does",
            ));
        };
        members.entry(class).or_default().push(index);
    }
    let mut chosen = Vec::new();
    for (class, members) in members {
        let count = share.of(members.len());
        if count > members.len() {
            let name = samples.classes(TaskKind::Classify).and_then(|names| names.get(class));
            let name = name.map_or_else(|| class.to_string(), Clone::clone);
            return Err(invalid(format!(
                "`per_class` is {count}, but the class `{name}` has {} samples",
                members.len()
            )));
        }
        let mut rng = random::stream(Purpose::Order, &[seed, random::name_counter("Subset"), class as u64]);
        chosen.extend(index::sample(&mut rng, members.len(), count).into_iter().map(|at| members[at]));
    }
    chosen.sort_unstable();
    Ok(chosen)
}

/// The chosen ones of some samples.
struct Chosen {
    samples: Box<dyn Samples>,
    chosen: Vec<usize>,
}

impl Samples for Chosen {
    fn len(&self) -> usize {
        self.chosen.len()
    }

    fn get(&self, index: usize) -> Result<Sample, DataError> {
        self.samples.get(self.chosen[index])
    }

    fn identity(&self, index: usize) -> Option<String> {
        self.samples.identity(self.chosen[index])
    }

    fn class(&self, index: usize) -> Option<usize> {
        self.samples.class(self.chosen[index])
    }

    fn classes(&self, task: TaskKind) -> Option<&[String]> {
        self.samples.classes(task)
    }

    fn category_ids(&self) -> Option<&[u64]> {
        self.samples.category_ids()
    }

    fn passed_over(&self) -> PassedOver {
        self.samples.passed_over()
    }

    fn warnings(&self) -> Vec<String> {
        self.samples.warnings()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    /// Samples that are nothing but their classes.
    struct Classes(Vec<Option<usize>>);

    impl Samples for Classes {
        fn len(&self) -> usize {
            self.0.len()
        }

        fn get(&self, index: usize) -> Result<Sample, DataError> {
            Err(invalid(format!("sample {index} was read")))
        }

        fn class(&self, index: usize) -> Option<usize> {
            self.0[index]
        }

        fn category_ids(&self) -> Option<&[u64]> {
            Some(&[7, 90])
        }
    }

    /// Classes of these sizes, interleaved.
    fn classes(sizes: &[usize]) -> Classes {
        let longest = sizes.iter().max().copied().unwrap_or(0);
        let rounds = (0..longest).flat_map(|round| {
            sizes.iter().enumerate().filter(move |&(_, &size)| round < size).map(|(class, _)| Some(class))
        });
        Classes(rounds.collect())
    }

    /// How many of each class were chosen.
    fn sizes(samples: &Classes, chosen: &[usize], classes: usize) -> Vec<usize> {
        let mut sizes = vec![0; classes];
        chosen.iter().for_each(|&index| sizes[samples.0[index].unwrap()] += 1);
        sizes
    }

    #[test]
    fn every_class_gives_as_many() {
        let samples = classes(&[5, 40, 7]);
        let chosen = choose(&samples, Share::Count(5), 0).unwrap();
        assert_eq!(sizes(&samples, &chosen, 3), [5, 5, 5]);
    }

    #[test]
    fn a_fraction_keeps_the_shares_of_unequal_classes() {
        let samples = classes(&[100, 10, 1000, 3, 26]);
        let chosen = choose(&samples, Share::Fraction(0.1), 0).unwrap();
        assert_eq!(sizes(&samples, &chosen, 5), [10, 1, 100, 1, 3]);
        assert_eq!(choose(&samples, Share::Fraction(1.0), 0).unwrap().len(), samples.len());
    }

    #[test]
    fn the_choice_depends_on_the_seed_only() {
        let samples = classes(&[100, 100]);
        let draw = |seed| choose(&samples, Share::Count(10), seed).unwrap();
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        // One class' choice is not the other's.
        let (first, second): (Vec<_>, Vec<_>) = draw(1).into_iter().partition(|index| index % 2 == 0);
        assert_ne!(first.iter().map(|i| i + 1).collect::<Vec<_>>(), second);
    }

    #[test]
    fn classes_that_are_too_small_or_unknown_are_refused() {
        let message = |samples: &Classes| choose(samples, Share::Count(6), 0).unwrap_err().to_string();
        assert_eq!(message(&classes(&[9, 4])), "Subset: `per_class` is 6, but the class `1` has 4 samples");
        assert!(message(&Classes(vec![None])).contains("`ImageFolder` with `labelled: true`"));
    }

    /// A folder with the classes `a` and `b` of four images each.
    fn folder() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for class in ["a", "b"] {
            std::fs::create_dir(root.path().join(class)).unwrap();
            for number in 0..4 {
                let path = root.path().join(class).join(format!("{number}.png"));
                image::RgbImage::new(2, 2).save(path).unwrap();
            }
        }
        std::fs::write(root.path().join("notes.txt"), "").unwrap();
        root
    }

    fn open(fields: &Value) -> Result<Box<dyn Samples>, String> {
        let root = folder();
        let mut spec = json!({ "type": "Subset", "dataset": { "type": "ImageFolder", "root": root.path() } });
        spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let dataset: Box<dyn Dataset> = serde_json::from_value(spec).unwrap();
        let samples = dataset.open().map_err(|error| error.to_string())?;
        for index in 0..samples.len() {
            assert_eq!(samples.get(index).unwrap().target.class, samples.class(index));
        }
        Ok(samples)
    }

    #[test]
    fn a_subset_of_a_folder_has_its_classes_and_its_images() {
        let samples = open(&json!({ "per_class": 3 })).unwrap();
        assert_eq!((samples.len(), samples.classes(TaskKind::Classify).unwrap().len()), (6, 2));
        assert_eq!(samples.passed_over().to_string(), "1 .txt");
        let message = open(&json!({ "per_class": 5 })).err().unwrap();
        assert_eq!(message, "Subset: `per_class` is 5, but the class `a` has 4 samples");
    }

    #[test]
    fn a_subset_has_the_numbers_of_the_classes() {
        let subset = Chosen { samples: Box::new(classes(&[2, 2])), chosen: vec![1] };
        assert_eq!(subset.category_ids(), Some([7, 90].as_slice()));
    }

    #[test]
    fn exactly_one_of_count_and_fraction_is_stated() {
        let message = |fields: Value| open(&fields).err().unwrap();
        assert!(message(json!({})).contains("how much?"));
        assert!(message(json!({ "per_class": 1, "fraction": 0.5 })).contains("exclude each other"));
        assert!(message(json!({ "per_class": 0 })).contains("at least 1"));
        assert!(message(json!({ "fraction": 1.5 })).contains("at most 1"));
        assert!(open(&json!({ "fraction": 0.5, "seed": 7 })).is_ok_and(|samples| samples.len() == 4));
    }

    proptest! {
        #[test]
        fn a_choice_is_ascending_and_as_large_as_asked_for(
            lengths in prop::collection::vec(1_usize..60, 1..6), fraction in 0.01_f64..=1.0, seed: u64,
        ) {
            let samples = classes(&lengths);
            let chosen = choose(&samples, Share::Fraction(fraction), seed).unwrap();
            prop_assert!(chosen.is_sorted_by(|a, b| a < b));
            let expected: Vec<_> = lengths.iter().map(|&n| Share::Fraction(fraction).of(n)).collect();
            prop_assert_eq!(sizes(&samples, &chosen, lengths.len()), expected);
        }
    }
}
