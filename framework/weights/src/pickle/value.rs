//! What a pickle holds, as plain values.

use serde_json::{Map, Number, Value as Json};

use crate::DType;

/// The bytes that tensors are views of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StorageRef {
    /// Its name in the file.
    pub key: String,
    /// Its element type.
    pub dtype: DType,
    /// Its number of elements.
    pub len: usize,
}

/// A view of a storage; offset and strides count elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TensorRef {
    pub storage: StorageRef,
    pub offset: usize,
    pub shape: Vec<usize>,
    pub strides: Vec<usize>,
}

/// An array of numpy; `data` has not been compared with the shape.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Array {
    pub dtype: DType,
    pub shape: Vec<usize>,
    /// Whether the first axis is the innermost one.
    pub fortran: bool,
    pub data: Vec<u8>,
}

/// Keys and values in the order of the pickle.
pub(crate) type Entries = Vec<(Value, Value)>;

/// A Python value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(String),
    List(Vec<Value>),
    Tuple(Vec<Value>),
    Dict(Entries),
    /// An `argparse.Namespace` with its attributes.
    Namespace(Entries),
    Tensor(TensorRef),
    Array(Array),
    /// A class or function, or what it made, of which nothing else is known; with its entries, if it is a
    /// mapping.
    Object {
        class: String,
        entries: Entries,
    },
}

impl Value {
    /// What the value is, in a word.
    pub fn kind(&self) -> &str {
        match self {
            Self::None => "None",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float",
            Self::Str(_) => "str",
            Self::List(_) => "list",
            Self::Tuple(_) => "tuple",
            Self::Dict(_) => "dict",
            Self::Namespace(_) => "Namespace",
            Self::Tensor(_) => "tensor",
            Self::Array(_) => "numpy array",
            Self::Object { class, .. } => class,
        }
    }

    /// The entries of a mapping: a dict, or an object of a class derived from it.
    pub fn entries(&self) -> Option<&Entries> {
        match self {
            Self::Dict(entries) => Some(entries),
            Self::Object { entries, .. } if !entries.is_empty() => Some(entries),
            _ => None,
        }
    }

    /// As [`Self::entries`], to take them out.
    pub fn entries_mut(&mut self) -> Option<&mut Entries> {
        match self {
            Self::Dict(entries) => Some(entries),
            Self::Object { entries, .. } if !entries.is_empty() => Some(entries),
            _ => None,
        }
    }

    /// Whether it is a tensor of PyTorch or an array of numpy.
    pub fn is_tensor(&self) -> bool {
        matches!(self, Self::Tensor(_) | Self::Array(_))
    }

    /// The class of the first object in it whose content is not known.
    pub fn unknown(&self) -> Option<&str> {
        match self {
            Self::Object { class, .. } => Some(class),
            Self::List(items) | Self::Tuple(items) => items.iter().find_map(Self::unknown),
            Self::Dict(entries) | Self::Namespace(entries) => {
                entries.iter().find_map(|(_, value)| value.unknown())
            }
            _ => None,
        }
    }

    /// A dict key as text.
    pub fn key(&self) -> String {
        match self {
            Self::Str(text) => text.clone(),
            other => match other.to_json() {
                Json::String(text) => text,
                json => json.to_string(),
            },
        }
    }

    /// The value as JSON: tensors and unknown objects become a description, tuples become arrays.
    pub fn to_json(&self) -> Json {
        match self {
            Self::None => Json::Null,
            Self::Bool(value) => Json::Bool(*value),
            Self::Int(value) => {
                Number::from_i128(*value).map_or_else(|| value.to_string().into(), Json::Number)
            }
            Self::Float(value) => {
                Number::from_f64(*value).map_or_else(|| value.to_string().into(), Json::Number)
            }
            Self::Str(text) => Json::String(text.clone()),
            Self::List(items) | Self::Tuple(items) => items.iter().map(Self::to_json).collect(),
            Self::Dict(entries) | Self::Namespace(entries) => {
                let map: Map<_, _> =
                    entries.iter().map(|(key, value)| (key.key(), value.to_json())).collect();
                Json::Object(map)
            }
            Self::Tensor(tensor) => Json::String(format!("<{} {:?}>", tensor.storage.dtype, tensor.shape)),
            Self::Array(array) => Json::String(format!("<{} {:?}>", array.dtype, array.shape)),
            Self::Object { class, .. } => Json::String(format!("<{class}>")),
        }
    }
}
