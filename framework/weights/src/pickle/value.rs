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

/// A Python value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(String),
    /// Bytes, a storage by itself or a global by itself: known, of no use to us.
    Opaque(&'static str),
    List(Vec<Value>),
    Tuple(Vec<Value>),
    Dict(Vec<(Value, Value)>),
    /// An `argparse.Namespace` with its attributes.
    Namespace(Vec<(Value, Value)>),
    Tensor(TensorRef),
}

impl Value {
    /// What the value is, in a word.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float",
            Self::Str(_) => "str",
            Self::Opaque(kind) => kind,
            Self::List(_) => "list",
            Self::Tuple(_) => "tuple",
            Self::Dict(_) => "dict",
            Self::Namespace(_) => "Namespace",
            Self::Tensor(_) => "tensor",
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

    /// The value as JSON: tensors and other opaque values become a description, tuples become arrays.
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
            Self::Opaque(kind) => Json::String(format!("<{kind}>")),
            Self::List(items) | Self::Tuple(items) => items.iter().map(Self::to_json).collect(),
            Self::Dict(entries) | Self::Namespace(entries) => {
                let map: Map<_, _> =
                    entries.iter().map(|(key, value)| (key.key(), value.to_json())).collect();
                Json::Object(map)
            }
            Self::Tensor(tensor) => Json::String(format!("<{} {:?}>", tensor.storage.dtype, tensor.shape)),
        }
    }
}
