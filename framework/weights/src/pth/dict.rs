//! A pickled dict with arrays of numpy that is no model, such as a batch of CIFAR.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value as Json};

use super::super::error::{FormatError, WeightsError};
use super::super::pickle::{self, Value};
use super::super::tensor::HostTensor;
use super::view;

/// The entries of a pickled dict.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PickledDict {
    /// Arrays of numpy.
    pub arrays: HashMap<String, HostTensor>,
    /// Numbers, texts, lists and dicts.
    pub plain: Map<String, Json>,
}

/// Reads a file that holds a dict by Python's pickle, which is not executed. What is neither an array nor a plain value is
/// left out.
///
/// # Errors
/// If the file cannot be read, or is not such a dict.
pub fn read_pickled_dict(path: &Path) -> Result<PickledDict, WeightsError> {
    let bytes = fs::read(path).map_err(WeightsError::io("read", path))?;
    dict(&bytes).map_err(|reason| WeightsError::format(path, reason))
}

fn dict(bytes: &[u8]) -> Result<PickledDict, FormatError> {
    let value = pickle::load(bytes)?.value;
    let Some(entries) = value.entries() else {
        return Err(FormatError::NoDict { found: value.kind().to_owned() });
    };
    let mut dict = PickledDict::default();
    for (key, value) in entries {
        let name = key.key();
        match value {
            Value::Array(array) => {
                let refuse = |reason| FormatError::Tensor { name: name.clone(), reason };
                let tensor = view::contiguous(array).map_err(refuse)?;
                dict.arrays.insert(name, tensor);
            }
            value if value.unknown().is_none() && !value.is_tensor() => {
                dict.plain.insert(name, value.to_json());
            }
            _ => {}
        }
    }
    Ok(dict)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;
    use crate::DType;

    /// `{"a": [1, 2], "b": numpy.array([3, 250], "u1")}` as Python 2 writes it, by protocol 2.
    const TWO: &[u8] = b"\x80\x02}q\x00(U\x01aq\x01]q\x02(K\x01K\x02eU\x01bq\x03cnumpy.core.multiarray\n_reconstruct\nq\x04\
        cnumpy\nndarray\nq\x05K\x00\x85q\x06U\x01bq\x07\x87q\x08Rq\x09(K\x01K\x02\x85q\x0acnumpy\ndtype\nq\x0bU\x02u1q\x0c\
        K\x00K\x01\x87q\x0dRq\x0e(K\x03U\x01|q\x0fNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\x10b\x89U\x02\x03\xfaq\x11tq\x12bu.";

    #[test]
    fn arrays_and_plain_values_are_told_apart() {
        let dict = dict(TWO).unwrap();
        assert_eq!(dict.plain, *json!({ "a": [1, 2] }).as_object().unwrap());
        let array = &dict.arrays["b"];
        assert_eq!((array.dtype, &*array.shape, &*array.data), (DType::U8, &[2][..], &[3, 250][..]));
        assert_eq!(dict.arrays.len(), 1);
    }

    #[test]
    fn what_is_no_dict_or_is_cut_off_is_refused() {
        assert_eq!(dict(b"\x80\x02]q\x00.").unwrap_err().to_string(), "no dict in it, but a list");
        for len in 0..TWO.len() {
            assert!(dict(&TWO[..len]).is_err(), "{len} bytes");
        }
    }
}
