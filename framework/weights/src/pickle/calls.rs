//! `REDUCE` and `BUILD`: what calling a global gives.

use std::borrow::Cow;
use std::collections::hash_map::Entry;

use super::arena::{Id, Node, Object, Storage, Tensor};
use super::error::Fault;
use super::globals::Global;
use super::limits::MAX_KEY;
use super::machine::Machine;

impl<'a> Machine<'a> {
    /// `callee(*arguments)`. What an unknown callee makes is an object of its name.
    pub(super) fn reduce(&mut self, callee: Id, arguments: Id) -> Result<Id, Fault> {
        if let Node::Object(object) = self.arena.get(callee) {
            let made = Object::of(object.module, object.name);
            return self.arena.add(made);
        }
        let global = self.global(callee)?;
        let node = match (global, self.arena.tuple(arguments)?) {
            (Global::OrderedDict | Global::Namespace, []) => empty(global)?,
            // As Python 2 pickles it.
            (Global::OrderedDict, &[list]) if matches!(self.arena.get(list), Node::List(_)) => {
                Node::Dict(self.pairs(list)?)
            }
            // (storage, offset, size, stride[, requires_grad, hooks[, metadata]])
            (
                Global::RebuildTensor,
                &[storage, offset, shape, strides]
                | &[storage, offset, shape, strides, _, _]
                | &[storage, offset, shape, strides, _, _, _],
            ) => self.tensor(storage, offset, shape, strides)?,
            // (data, requires_grad, hooks[, state]): a parameter is its data.
            (Global::RebuildParameter, &[data, _, _] | &[data, _, _, _]) => match self.arena.get(data) {
                Node::Tensor(_) | Node::Object(_) => return Ok(data),
                other => return Err(other.expected("a tensor")),
            },
            (Global::RebuildFromType, &[function, _, arguments, _]) => {
                return match self.arena.get(function) {
                    Node::Global(Global::RebuildFromType) => {
                        Err(Fault::Call { name: global.name(), what: "itself" })
                    }
                    _ => self.reduce(function, arguments),
                };
            }
            (Global::Encode, &[text, encoding]) => self.encode(text, encoding)?,
            (Global::Bytes, []) => Node::Bytes(Cow::Borrowed(&[])),
            (
                Global::NumpyType | Global::NumpyReconstruct | Global::NumpyFromBuffer | Global::NumpyScalar,
                arguments,
            ) => self.numpy(global, arguments)?,
            _ => return Err(Fault::Call { name: global.name(), what: "unknown arguments" }),
        };
        self.arena.add(node)
    }

    /// `class.__new__(class, *arguments)`.
    pub(super) fn new_object(&self, class: Id, arguments: Id) -> Result<Node<'a>, Fault> {
        if let Node::Object(object) = self.arena.get(class) {
            return Ok(Object::of(object.module, object.name));
        }
        let global = self.global(class)?;
        match self.arena.tuple(arguments)? {
            [] => empty(global),
            _ => Err(Fault::Call { name: global.name(), what: "unknown arguments" }),
        }
    }

    /// Sets an object's attributes: those of a `Namespace` are its content; those of an `OrderedDict`
    /// (`_metadata` of a state dict), of a tensor or of an unknown object say nothing about tensors.
    pub(super) fn build(&mut self, object: Id, state: Id) -> Result<(), Fault> {
        let is_dict = matches!(self.arena.get(state), Node::Dict(_));
        match self.arena.get_mut(object) {
            Node::Dict(_) | Node::Tensor(_) | Node::Object(_) => Ok(()),
            Node::Namespace(attributes) => {
                *attributes = is_dict.then_some(state);
                Ok(())
            }
            Node::NumpyType(_) => self.set_numpy_type(object, state),
            Node::NumpyArray(_) => self.set_numpy_array(object, state),
            other => Err(other.expected("an object")),
        }
    }

    /// What is kept outside of the pickle: a storage, `("storage", class, key, location, len)`, to which legacy
    /// files add a view, which must be `None`; or the source of a module's class, `("module", class, ..)`.
    pub(super) fn persistent(&mut self, id: Id) -> Result<Node<'a>, Fault> {
        let arena = &self.arena;
        let (class, key, len) = match *arena.tuple(id)? {
            [tag, class, ..] if arena.text(tag)? == "module" => {
                return match arena.get(class) {
                    Node::Object(object) => Ok(Object::of(object.module, object.name)),
                    other => Err(other.expected("a class")),
                };
            }
            [tag, class, key, _, len] if arena.text(tag)? == "storage" => (class, key, len),
            [tag, class, key, _, len, view]
                if arena.text(tag)? == "storage" && matches!(arena.get(view), Node::None) =>
            {
                (class, key, len)
            }
            _ => return Err(arena.get(id).expected("a storage's id")),
        };
        let dtype = match arena.get(class) {
            Node::Global(Global::Storage(dtype)) => *dtype,
            Node::Object(object) => return Ok(Object::of(object.module, object.name)),
            other => return Err(other.expected("a storage class")),
        };
        let storage = Storage { key: arena.text(key)?, dtype, len: arena.size(len)? };
        if storage.key.len() > MAX_KEY {
            return Err(Fault::Limit { limit: MAX_KEY, what: "bytes in a storage's key" });
        }
        match self.storage_index.entry(storage.key) {
            Entry::Vacant(entry) => {
                entry.insert(self.storages.len());
                self.storages.push(storage);
            }
            Entry::Occupied(entry) if self.storages[*entry.get()] == storage => {}
            Entry::Occupied(_) => return Err(Fault::Storage(storage.key.to_owned())),
        }
        Ok(Node::Storage(storage))
    }

    /// A view of a storage; of one whose type is not known, an object.
    fn tensor(&self, storage: Id, offset: Id, shape: Id, strides: Id) -> Result<Node<'a>, Fault> {
        let storage = match self.arena.get(storage) {
            Node::Storage(storage) => *storage,
            Node::Object(object) => return Ok(Object::of(object.module, object.name)),
            other => return Err(other.expected("a storage")),
        };
        let (shape, strides) = (self.sizes(shape)?, self.sizes(strides)?);
        if shape.len() != strides.len() {
            return Err(Fault::Call {
                name: Global::RebuildTensor.name(),
                what: "unequal numbers of sizes and strides",
            });
        }
        Ok(Node::Tensor(Tensor { storage, offset: self.arena.size(offset)?, shape, strides }))
    }

    /// The entries of `[[key, value], ..]`.
    fn pairs(&mut self, list: Id) -> Result<Vec<(Id, Id)>, Fault> {
        let Node::List(items) = self.arena.get(list) else {
            return Err(self.arena.get(list).expected("a list of pairs"));
        };
        let pair = |&item: &Id| {
            let (Node::List(pair) | Node::Tuple(pair)) = self.arena.get(item) else { return None };
            let &[key, value] = pair.as_slice() else { return None };
            Some((key, value))
        };
        let expected = |item: &Id| self.arena.get(*item).expected("a pair");
        let pairs = items.iter().map(|item| pair(item).ok_or_else(|| expected(item)));
        let pairs = pairs.collect::<Result<Vec<_>, _>>()?;
        self.copy(size_of_val(pairs.as_slice()))?;
        Ok(pairs)
    }

    fn global(&self, id: Id) -> Result<Global, Fault> {
        match self.arena.get(id) {
            Node::Global(global) => Ok(*global),
            other => Err(other.expected("a class or function")),
        }
    }
}

/// An instance without content.
fn empty<'a>(class: Global) -> Result<Node<'a>, Fault> {
    match class {
        Global::OrderedDict => Ok(Node::Dict(Vec::new())),
        Global::Namespace => Ok(Node::Namespace(None)),
        other => Err(Fault::Call { name: other.name(), what: "no arguments" }),
    }
}
