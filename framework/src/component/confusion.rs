//! Which classes are taken for which.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::ClassFigures;

/// How many images of each class were predicted to be of each class.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confusion {
    /// The names of the classes by index, as far as they are known. Every process knows them.
    #[serde(skip)]
    pub names: BTreeMap<usize, String>,
    /// Images by class and predicted class, none where no class was predicted; pairs that never occurred are left out.
    pub counts: BTreeMap<(usize, Option<usize>), u64>,
}

impl Confusion {
    /// Of no images.
    pub fn new(names: &[String]) -> Self {
        Self { names: names.iter().cloned().enumerate().collect(), counts: BTreeMap::new() }
    }

    /// Takes an image.
    pub fn add(&mut self, class: usize, predicted: Option<usize>) {
        *self.counts.entry((class, predicted)).or_default() += 1;
    }

    /// Takes the images of another one.
    pub fn merge(&mut self, other: &Self) {
        for (pair, images) in &other.counts {
            *self.counts.entry(*pair).or_default() += images;
        }
    }

    /// The classes that occur or were predicted, by index.
    pub fn classes(&self) -> Vec<usize> {
        let both = self.counts.keys().flat_map(|(class, predicted)| [Some(*class), *predicted]);
        both.flatten().collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The name of a class, or `class 7`.
    pub fn label(&self, class: usize) -> String {
        self.names.get(&class).cloned().unwrap_or_else(|| format!("class {class}"))
    }

    /// Images of every class, by index.
    pub fn images(&self) -> BTreeMap<usize, u64> {
        self.sums(|class, _| Some(class))
    }

    /// Images, and recall, precision and their harmonic mean in percent, of every class that occurs; there is no precision of a
    /// class that was never predicted.
    pub fn figures(&self) -> Vec<ClassFigures> {
        let (of_class, predicted) = (self.images(), self.sums(|_, predicted| predicted));
        let figures = |(class, images): (&usize, &u64)| {
            let right = self.counts.get(&(*class, Some(*class))).copied().unwrap_or(0) as f64;
            let found = predicted.get(class).copied().unwrap_or(0);
            let mut figures = vec![
                ("images".to_owned(), *images as f64),
                ("recall".to_owned(), 100.0 * right / *images as f64),
            ];
            if found > 0 {
                figures.push(("precision".to_owned(), 100.0 * right / found as f64));
            }
            figures.push(("f1".to_owned(), 200.0 * right / (images + found) as f64));
            ClassFigures { class: self.label(*class), figures, curves: Vec::new() }
        };
        of_class.iter().map(figures).collect()
    }

    /// Images by one of the two classes.
    fn sums(&self, class: fn(usize, Option<usize>) -> Option<usize>) -> BTreeMap<usize, u64> {
        let mut sums = BTreeMap::new();
        for (&(of, predicted), images) in &self.counts {
            if let Some(class) = class(of, predicted) {
                *sums.entry(class).or_default() += images;
            }
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_those_of_scikit_learn() {
        // precision_recall_fscore_support([0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 1, 1]).
        let mut confusion = Confusion::new(&["cat".to_owned(), "dog".to_owned()]);
        for (class, predicted) in [(0, 0), (0, 0), (0, 1), (1, 1), (1, 1), (2, 1)] {
            confusion.add(class, Some(predicted));
        }
        let figures = confusion.figures();
        let of = |class: usize, name: &str| {
            figures[class].figures.iter().find(|(known, _)| known == name).map(|figure| figure.1)
        };
        assert_eq!(figures.iter().map(|of| of.class.as_str()).collect::<Vec<_>>(), ["cat", "dog", "class 2"]);
        assert_eq!((of(0, "images"), of(0, "precision")), (Some(3.0), Some(100.0)));
        assert!((of(0, "recall").unwrap_or(0.0) - 66.666_667).abs() < 1e-6);
        assert!((of(0, "f1").unwrap_or(0.0) - 80.0).abs() < 1e-12);
        assert_eq!((of(1, "recall"), of(1, "precision")), (Some(100.0), Some(50.0)));
        // Never predicted: scikit-learn says 0 and warns.
        assert_eq!((of(2, "recall"), of(2, "precision"), of(2, "f1")), (Some(0.0), None, Some(0.0)));
    }

    #[test]
    fn what_predicts_nothing_is_an_image_of_its_class() {
        let mut confusion = Confusion::default();
        confusion.add(3, None);
        confusion.add(3, Some(1));
        assert_eq!(confusion.classes(), [1, 3]);
        assert_eq!(confusion.images(), BTreeMap::from([(3, 2)]));
        let mut twice = confusion.clone();
        twice.merge(&confusion);
        assert_eq!(twice.counts, BTreeMap::from([((3, None), 2), ((3, Some(1)), 2)]));
    }
}
