//! The objects under construction while a pickle is read.
//!
//! A pickle fills containers after it has put them into the memo, so a value may be shared and even contain
//! itself. They are therefore kept in one vector and refer to each other by index; the finished one is copied
//! out as a tree.

use std::borrow::Cow;

use super::error::Fault;
use super::globals::{Global, named};
use super::limits::{MAX_DEPTH, MAX_VALUES};
use super::numpy::{NumpyArray, NumpyType};
use super::value::{Array, Entries, StorageRef, TensorRef, Value};
use crate::DType;

/// Index of a node.
pub(super) type Id = usize;

/// A value whose parts are other nodes.
#[derive(Debug)]
pub(super) enum Node<'a> {
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(&'a str),
    Bytes(Cow<'a, [u8]>),
    List(Vec<Id>),
    Tuple(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// The attributes are a dict, once set.
    Namespace(Option<Id>),
    Global(Global),
    Storage(Storage<'a>),
    Tensor(Tensor<'a>),
    NumpyType(NumpyType<'a>),
    /// Its content is there, once set.
    NumpyArray(Option<NumpyArray<'a>>),
    Object(Object<'a>),
}

/// A class or function that is not known, or what it made. The entries are those of a mapping.
#[derive(Clone, Debug)]
pub(super) struct Object<'a> {
    pub module: &'a str,
    pub name: &'a str,
    pub entries: Vec<(Id, Id)>,
}

impl Object<'_> {
    pub fn of<'a>(module: &'a str, name: &'a str) -> Node<'a> {
        Node::Object(Object { module, name, entries: Vec::new() })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Storage<'a> {
    pub key: &'a str,
    pub dtype: DType,
    pub len: usize,
}

impl Storage<'_> {
    pub fn to_ref(self) -> StorageRef {
        StorageRef { key: self.key.to_owned(), dtype: self.dtype, len: self.len }
    }
}

#[derive(Debug)]
pub(super) struct Tensor<'a> {
    pub storage: Storage<'a>,
    pub offset: usize,
    pub shape: Vec<usize>,
    pub strides: Vec<usize>,
}

impl Node<'_> {
    pub fn kind(&self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Bool(_) => "a bool",
            Self::Int(_) => "an int",
            Self::Float(_) => "a float",
            Self::Str(_) => "a str",
            Self::Bytes(_) => "bytes",
            Self::List(_) => "a list",
            Self::Tuple(_) => "a tuple",
            Self::Dict(_) => "a dict",
            Self::Namespace(_) => "a Namespace",
            Self::Global(_) => "a class or function",
            Self::Storage(_) => "a storage",
            Self::Tensor(_) => "a tensor",
            Self::NumpyType(_) => "a numpy type",
            Self::NumpyArray(_) => "a numpy array",
            Self::Object(_) => "an object",
        }
    }

    pub fn expected(&self, expected: &'static str) -> Fault {
        Fault::Kind { expected, found: self.kind() }
    }
}

/// All nodes of one pickle.
#[derive(Default)]
pub(super) struct Arena<'a> {
    nodes: Vec<Node<'a>>,
}

impl<'a> Arena<'a> {
    pub fn add(&mut self, node: Node<'a>) -> Result<Id, Fault> {
        if self.nodes.len() >= MAX_VALUES {
            return Err(TOO_MANY_VALUES);
        }
        self.nodes.push(node);
        Ok(self.nodes.len() - 1)
    }

    /// # Panics
    /// Never: ids come from [`Self::add`] and nodes are not removed.
    pub fn get(&self, id: Id) -> &Node<'a> {
        &self.nodes[id]
    }

    pub fn get_mut(&mut self, id: Id) -> &mut Node<'a> {
        &mut self.nodes[id]
    }

    pub fn tuple(&self, id: Id) -> Result<&[Id], Fault> {
        match self.get(id) {
            Node::Tuple(items) => Ok(items),
            other => Err(other.expected("a tuple")),
        }
    }

    pub fn text(&self, id: Id) -> Result<&'a str, Fault> {
        match self.get(id) {
            Node::Str(text) => Ok(text),
            other => Err(other.expected("a str")),
        }
    }

    pub fn size(&self, id: Id) -> Result<usize, Fault> {
        match self.get(id) {
            Node::Int(value) => usize::try_from(*value)
                .map_err(|_| Fault::Kind { expected: "a size", found: "an int out of range" }),
            other => Err(other.expected("an int")),
        }
    }

    /// Bytes, which Python 2 wrote as it did text.
    pub fn bytes(&self, id: Id) -> Option<&[u8]> {
        match self.get(id) {
            Node::Bytes(bytes) => Some(bytes),
            Node::Str(text) => Some(text.as_bytes()),
            _ => None,
        }
    }

    /// Copies a node and all below it; the elements of arrays may take `bytes`.
    pub fn to_value(&self, id: Id, bytes: usize) -> Result<Value, Fault> {
        Copier { arena: self, budget: MAX_VALUES, bytes }.value(id, 0)
    }
}

/// Something known of which the content is of no use.
fn opaque(class: &str) -> Value {
    Value::Object { class: class.to_owned(), entries: Vec::new() }
}

const TOO_MANY_VALUES: Fault = Fault::Limit { limit: MAX_VALUES, what: "values" };

/// Bytes of text that count as one value.
const TEXT_UNIT: usize = 32;

/// Copies nodes while the budget lasts: a few shared nodes can stand for an enormous tree.
struct Copier<'a, 'b> {
    arena: &'b Arena<'a>,
    budget: usize,
    bytes: usize,
}

impl Copier<'_, '_> {
    fn value(&mut self, id: Id, depth: usize) -> Result<Value, Fault> {
        if depth > MAX_DEPTH {
            return Err(Fault::Limit { limit: MAX_DEPTH, what: "nested containers" });
        }
        self.charge(1)?;
        Ok(match self.arena.get(id) {
            Node::None => Value::None,
            Node::Bool(value) => Value::Bool(*value),
            Node::Int(value) => Value::Int(*value),
            Node::Float(value) => Value::Float(*value),
            Node::Str(text) => {
                self.charge(text.len() / TEXT_UNIT)?;
                Value::Str((*text).to_owned())
            }
            Node::Bytes(_) => opaque("bytes"),
            Node::List(items) => Value::List(self.values(items, depth)?),
            Node::Tuple(items) => Value::Tuple(self.values(items, depth)?),
            Node::Dict(entries) => Value::Dict(self.entries(entries, depth)?),
            Node::Namespace(None) => Value::Namespace(Vec::new()),
            Node::Namespace(Some(state)) => match self.value(*state, depth + 1)? {
                Value::Dict(entries) => Value::Namespace(entries),
                _ => return Err(self.arena.get(*state).expected("a dict")),
            },
            Node::Global(global) => opaque(global.name()),
            Node::Storage(_) => opaque("storage"),
            Node::NumpyType(_) => opaque("numpy.dtype"),
            Node::NumpyArray(array) => self.array(array.as_ref())?,
            Node::Object(object) => {
                Value::Object { class: self.class(object)?, entries: self.entries(&object.entries, depth)? }
            }
            Node::Tensor(tensor) => {
                self.charge(tensor.shape.len())?;
                Value::Tensor(TensorRef {
                    storage: tensor.storage.to_ref(),
                    offset: tensor.offset,
                    shape: tensor.shape.clone(),
                    strides: tensor.strides.clone(),
                })
            }
        })
    }

    fn values(&mut self, items: &[Id], depth: usize) -> Result<Vec<Value>, Fault> {
        items.iter().map(|&item| self.value(item, depth + 1)).collect()
    }

    /// An array; one of elements that are no numbers is an object.
    fn array(&mut self, array: Option<&NumpyArray<'_>>) -> Result<Value, Fault> {
        let content = array.and_then(|array| Some((array, array.ty.dtype()?, self.arena.bytes(array.data)?)));
        let Some((array, dtype, data)) = content else { return Ok(opaque("numpy.ndarray")) };
        self.charge(array.shape.len())?;
        self.bytes = self.bytes.checked_sub(data.len()).ok_or(Fault::Expansion)?;
        let NumpyArray { shape, fortran, .. } = array;
        Ok(Value::Array(Array { dtype, shape: shape.clone(), fortran: *fortran, data: data.to_vec() }))
    }

    fn class(&mut self, object: &Object<'_>) -> Result<String, Fault> {
        let class = named(object.module, object.name);
        self.charge(class.len() / TEXT_UNIT)?;
        Ok(class)
    }

    fn entries(&mut self, entries: &[(Id, Id)], depth: usize) -> Result<Entries, Fault> {
        entries
            .iter()
            .map(|&(key, value)| Ok((self.value(key, depth + 1)?, self.value(value, depth + 1)?)))
            .collect()
    }

    fn charge(&mut self, cost: usize) -> Result<(), Fault> {
        self.budget = self.budget.checked_sub(cost).ok_or(TOO_MANY_VALUES)?;
        Ok(())
    }
}
