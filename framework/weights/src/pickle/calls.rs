//! `REDUCE` and `BUILD`: what calling a known global gives.

use std::collections::hash_map::Entry;

use super::arena::{Id, Node, Storage, Tensor};
use super::error::Fault;
use super::globals::Global;
use super::limits::{MAX_AXES, MAX_KEY};
use super::machine::Machine;

impl<'a> Machine<'a> {
    /// `callee(*arguments)`.
    pub(super) fn reduce(&mut self, callee: Id, arguments: Id) -> Result<Id, Fault> {
        let global = self.global(callee)?;
        let node = match (global, self.arena.tuple(arguments)?) {
            (Global::OrderedDict | Global::Namespace, []) => empty(global)?,
            // (storage, offset, size, stride, requires_grad, hooks[, metadata])
            (
                Global::RebuildTensor,
                &[storage, offset, shape, strides, _, _] | &[storage, offset, shape, strides, _, _, _],
            ) => Node::Tensor(self.tensor(storage, offset, shape, strides)?),
            // (data, requires_grad, hooks): a parameter is its data.
            (Global::RebuildParameter, &[data, _, _]) => match self.arena.get(data) {
                Node::Tensor(_) => return Ok(data),
                other => return Err(other.expected("a tensor")),
            },
            _ => return Err(Fault::Call { name: global.name(), what: "unknown arguments" }),
        };
        self.arena.add(node)
    }

    /// `class.__new__(class, *arguments)`.
    pub(super) fn new_object(&self, class: Id, arguments: Id) -> Result<Node<'a>, Fault> {
        let global = self.global(class)?;
        match self.arena.tuple(arguments)? {
            [] => empty(global),
            _ => Err(Fault::Call { name: global.name(), what: "unknown arguments" }),
        }
    }

    /// Sets an object's attributes: those of a `Namespace` are its content, those of an `OrderedDict`
    /// (`_metadata` of a state dict) say nothing about the tensors.
    pub(super) fn build(&mut self, object: Id, state: Id) -> Result<(), Fault> {
        if !matches!(self.arena.get(state), Node::Dict(_)) {
            return Err(self.arena.get(state).expected("a dict"));
        }
        match self.arena.get_mut(object) {
            Node::Dict(_) => {}
            Node::Namespace(attributes) => *attributes = Some(state),
            other => return Err(other.expected("a Namespace or an OrderedDict")),
        }
        Ok(())
    }

    /// The persistent id `("storage", class, key, location, len)`; legacy files add a view, which must be
    /// `None`.
    pub(super) fn storage(&mut self, id: Id) -> Result<Storage<'a>, Fault> {
        let arena = &self.arena;
        let (tag, class, key, len) = match *arena.tuple(id)? {
            [tag, class, key, _, len] => (tag, class, key, len),
            [tag, class, key, _, len, view] if matches!(arena.get(view), Node::None) => {
                (tag, class, key, len)
            }
            _ => return Err(arena.get(id).expected("a storage's id")),
        };
        if arena.text(tag)? != "storage" {
            return Err(arena.get(tag).expected("the word `storage`"));
        }
        let Global::Storage(dtype) = self.global(class)? else {
            return Err(arena.get(class).expected("a storage class"));
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
        Ok(storage)
    }

    fn tensor(&self, storage: Id, offset: Id, shape: Id, strides: Id) -> Result<Tensor<'a>, Fault> {
        let Node::Storage(storage) = *self.arena.get(storage) else {
            return Err(self.arena.get(storage).expected("a storage"));
        };
        let (shape, strides) = (self.sizes(shape)?, self.sizes(strides)?);
        if shape.len() != strides.len() {
            return Err(Fault::Call {
                name: Global::RebuildTensor.name(),
                what: "unequal numbers of sizes and strides",
            });
        }
        Ok(Tensor { storage, offset: self.arena.size(offset)?, shape, strides })
    }

    fn sizes(&self, id: Id) -> Result<Vec<usize>, Fault> {
        let items = self.arena.tuple(id)?;
        if items.len() > MAX_AXES {
            return Err(Fault::Limit { limit: MAX_AXES, what: "axes" });
        }
        items.iter().map(|&item| self.arena.size(item)).collect()
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
