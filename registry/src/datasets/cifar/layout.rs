//! The four forms in which CIFAR is distributed.

use std::path::Path;

use convmae_framework::data::{DataError, composed};
use convmae_framework::weights::{DType, PickledDict, read_pickled_dict};
use serde_json::Value;

use super::{Batch, CifarSplit, IMAGE, invalid};
use crate::datasets::class_names::read_names;
use crate::datasets::what_is_there;

/// The files of one form.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    format: Format,
    train: &'static [&'static str],
    test: &'static [&'static str],
    /// The keys of the labels, the file of their names, and within a pickle its key: of the fine classes, or the only ones.
    fine: Labels,
    /// Of the superclasses, if there are any.
    coarse: Option<Labels>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    /// Records of bytes: the labels, then the image.
    Binary,
    /// Dicts with an array `[N, 3072]` and lists of labels, by Python's pickle.
    Pickle,
}

#[derive(Debug, Clone, Copy)]
struct Labels {
    /// In a record its place, in a pickle its key.
    place: usize,
    key: &'static str,
    names: &'static str,
    names_key: &'static str,
}

const LAYOUTS: [Layout; 4] = [
    Layout {
        format: Format::Binary,
        train: &[
            "data_batch_1.bin",
            "data_batch_2.bin",
            "data_batch_3.bin",
            "data_batch_4.bin",
            "data_batch_5.bin",
        ],
        test: &["test_batch.bin"],
        fine: Labels { place: 0, key: "", names: "batches.meta.txt", names_key: "" },
        coarse: None,
    },
    Layout {
        format: Format::Pickle,
        train: &["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5"],
        test: &["test_batch"],
        fine: Labels { place: 0, key: "labels", names: "batches.meta", names_key: "label_names" },
        coarse: None,
    },
    Layout {
        format: Format::Binary,
        train: &["train.bin"],
        test: &["test.bin"],
        fine: Labels { place: 1, key: "", names: "fine_label_names.txt", names_key: "" },
        coarse: Some(Labels { place: 0, key: "", names: "coarse_label_names.txt", names_key: "" }),
    },
    Layout {
        format: Format::Pickle,
        train: &["train"],
        test: &["test"],
        fine: Labels { place: 1, key: "fine_labels", names: "meta", names_key: "fine_label_names" },
        coarse: Some(Labels {
            place: 0,
            key: "coarse_labels",
            names: "meta",
            names_key: "coarse_label_names",
        }),
    },
];

impl Layout {
    /// That of the files in a folder.
    ///
    /// # Errors
    /// If it holds none of them, or not all.
    pub fn of(root: &Path, split: CifarSplit) -> Result<Self, DataError> {
        let is_there = |name: &&&str| root.join(name).is_file();
        let found = LAYOUTS.into_iter().find(|layout| layout.files(split).iter().any(|name| is_there(&name)));
        let Some(layout) = found else {
            let missing = root.join(LAYOUTS[0].files(split)[0]);
            let reason = format!(
                "the files of CIFAR are not here, such as `{}`, `{}` or `{}`{}",
                LAYOUTS[0].files(split)[0],
                LAYOUTS[1].files(split)[0],
                LAYOUTS[2].files(split)[0],
                what_is_there(&missing)
            );
            return Err(invalid(root, reason));
        };
        match layout.files(split).iter().find(|name| !is_there(name)) {
            Some(missing) => {
                Err(invalid(&root.join(missing), "no such file, and there are others of the split"))
            }
            None => Ok(layout),
        }
    }

    /// The files of a split, in their order.
    pub fn files(&self, split: CifarSplit) -> &'static [&'static str] {
        match split {
            CifarSplit::Train => self.train,
            CifarSplit::Test => self.test,
        }
    }

    /// Whether it tells superclasses apart.
    pub fn has_coarse(&self) -> bool {
        self.coarse.is_some()
    }

    fn labels(&self, coarse: bool) -> Labels {
        self.coarse.filter(|_| coarse).unwrap_or(self.fine)
    }

    /// The names of the classes.
    ///
    /// # Errors
    /// If their file is not there or holds none.
    pub fn classes(&self, root: &Path, coarse: bool) -> Result<Vec<String>, DataError> {
        let Labels { names, names_key, .. } = self.labels(coarse);
        let path = root.join(names);
        let classes = match self.format {
            Format::Binary => read_names(&path)?,
            Format::Pickle => {
                let dict = read_dict(&path)?;
                let names = dict.plain.get(names_key).and_then(Value::as_array);
                let name = |name: &Value| name.as_str().map(composed);
                names.and_then(|names| names.iter().map(name).collect::<Option<_>>()).unwrap_or_default()
            }
        };
        match classes.is_empty() {
            true => Err(invalid(&path, "the names of the classes are not in it")),
            false => Ok(classes),
        }
    }

    /// The images of a file.
    ///
    /// # Errors
    /// If it is not one of CIFAR, or not whole.
    pub fn read(&self, path: &Path, coarse: bool) -> Result<Batch, DataError> {
        match self.format {
            Format::Binary => self.read_records(path, coarse),
            Format::Pickle => self.read_pickle(path, coarse),
        }
    }

    fn read_records(&self, path: &Path, coarse: bool) -> Result<Batch, DataError> {
        let bytes = std::fs::read(path).map_err(|source| DataError::Io { path: path.to_owned(), source })?;
        let labels = 1 + usize::from(self.has_coarse());
        let record = labels + IMAGE;
        if bytes.is_empty() || !bytes.len().is_multiple_of(record) {
            let reason = format!(
                "{} bytes are no whole number of images of {record} bytes: is the download complete?",
                bytes.len()
            );
            return Err(invalid(path, reason));
        }
        let records = || bytes.chunks_exact(record);
        let place = self.labels(coarse).place;
        Ok(Batch {
            labels: records().map(|record| usize::from(record[place])).collect(),
            planes: records().flat_map(|record| &record[labels..]).copied().collect(),
        })
    }

    fn read_pickle(&self, path: &Path, coarse: bool) -> Result<Batch, DataError> {
        let mut dict = read_dict(path)?;
        let key = self.labels(coarse).key;
        let labels = dict.plain.get(key).and_then(Value::as_array).map(|labels| {
            labels.iter().map(|label| label.as_u64().and_then(|label| usize::try_from(label).ok())).collect()
        });
        let Some(Some::<Vec<usize>>(labels)) = labels else {
            return Err(invalid(path, format!("`{key}` is not a list of classes")));
        };
        match dict.arrays.remove("data") {
            Some(data) if data.dtype == DType::U8 && data.shape == [labels.len(), IMAGE] => {
                Ok(Batch { labels, planes: data.data })
            }
            _ => Err(invalid(path, format!("`data` is not an array of {} images", labels.len()))),
        }
    }
}

fn read_dict(path: &Path) -> Result<PickledDict, DataError> {
    read_pickled_dict(path).map_err(|error| invalid(path, error.to_string()))
}
