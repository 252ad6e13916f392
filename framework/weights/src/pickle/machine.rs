//! The stack machine.

use std::borrow::Cow;
use std::collections::HashMap;

use super::arena::{Arena, Id, Node, Object, Storage};
use super::error::{Fault, PickleError};
use super::globals::Global;
use super::input::{Input, long};
use super::limits::{MAX_DEPTH, MAX_EXPANSION, MAX_VALUES};
use super::opcode;
use super::value::{StorageRef, Value};

/// What one pickle holds.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// The value on top of the stack at the end.
    pub value: Value,
    /// Every storage it mentions, once, in order of first mention.
    pub storages: Vec<StorageRef>,
    /// Bytes consumed, the final `STOP` included.
    pub consumed: usize,
}

/// The state while a pickle is read.
pub(super) struct Machine<'a> {
    input: Input<'a>,
    pub(super) arena: Arena<'a>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    pub(super) storages: Vec<Storage<'a>>,
    pub(super) storage_index: HashMap<&'a str, usize>,
    /// Bytes that calls may still copy.
    copies: usize,
}

impl<'a> Machine<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self {
            input: Input::new(bytes),
            arena: Arena::default(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            storages: Vec::new(),
            storage_index: HashMap::new(),
            copies: bytes.len().saturating_mul(MAX_EXPANSION),
        }
    }

    pub fn run(mut self) -> Result<Loaded, PickleError> {
        loop {
            let offset = self.input.position;
            match self.step() {
                Ok(None) => {}
                Ok(Some(loaded)) => return Ok(loaded),
                Err(fault) => return Err(PickleError { offset, fault }),
            }
        }
    }

    /// Executes one opcode; the result is there after `STOP`.
    fn step(&mut self) -> Result<Option<Loaded>, Fault> {
        match self.input.byte()? {
            opcode::STOP => return self.stop().map(Some),
            opcode::PROTO => self.protocol()?,
            // A frame's length is a hint for buffered reading.
            opcode::FRAME => drop(self.input.take(8)?),
            opcode::MARK => self.mark()?,
            opcode::POP => drop(self.pop()?),
            opcode::POP_MARK => drop(self.pop_mark()?),
            opcode::DUP => self.push_id(self.top()?)?,
            opcode::BIN_GET => {
                let key = self.input.byte()?.into();
                self.recall(key)?;
            }
            opcode::LONG_BIN_GET => {
                let key = self.input.u32()?;
                self.recall(key)?;
            }
            opcode::BIN_PUT => {
                let key = self.input.byte()?.into();
                self.remember(key)?;
            }
            opcode::LONG_BIN_PUT => {
                let key = self.input.u32()?;
                self.remember(key)?;
            }
            opcode::MEMOIZE => {
                let key = u32::try_from(self.memo.len()).map_err(|_| Fault::Memo(u32::MAX))?;
                self.remember(key)?;
            }
            opcode => match self.scalar(opcode)? {
                Some(node) => self.push(node)?,
                None => self.container_or_call(opcode)?,
            },
        }
        Ok(None)
    }

    fn stop(&mut self) -> Result<Loaded, Fault> {
        let id = self.pop()?;
        Ok(Loaded {
            value: self.arena.to_value(id, self.input.len().saturating_mul(MAX_EXPANSION))?,
            storages: self.storages.iter().map(|storage| storage.to_ref()).collect(),
            consumed: self.input.position,
        })
    }

    fn protocol(&mut self) -> Result<(), Fault> {
        match self.input.byte()? {
            2..=5 => Ok(()),
            other => Err(Fault::Protocol(other)),
        }
    }

    /// The opcodes that push one plain value.
    fn scalar(&mut self, opcode: u8) -> Result<Option<Node<'a>>, Fault> {
        let input = &mut self.input;
        Ok(Some(match opcode {
            opcode::NONE => Node::None,
            opcode::NEW_TRUE => Node::Bool(true),
            opcode::NEW_FALSE => Node::Bool(false),
            opcode::BIN_INT1 => Node::Int(input.byte()?.into()),
            opcode::BIN_INT2 => Node::Int(u16::from_le_bytes(input.array()?).into()),
            opcode::BIN_INT => Node::Int(i32::from_le_bytes(input.array()?).into()),
            opcode::LONG1 => integer(input.counted8()?),
            opcode::LONG4 => integer(input.counted32()?),
            opcode::BIN_FLOAT => Node::Float(f64::from_be_bytes(input.array()?)),
            opcode::SHORT_BIN_UNICODE | opcode::SHORT_BIN_STRING => string(input.counted8()?),
            opcode::BIN_UNICODE | opcode::BIN_STRING => string(input.counted32()?),
            opcode::BIN_UNICODE8 => string(input.counted64()?),
            opcode::SHORT_BIN_BYTES => Node::Bytes(Cow::Borrowed(input.counted8()?)),
            opcode::BIN_BYTES => Node::Bytes(Cow::Borrowed(input.counted32()?)),
            opcode::BIN_BYTES8 | opcode::BYTE_ARRAY8 => Node::Bytes(Cow::Borrowed(input.counted64()?)),
            opcode::EMPTY_LIST | opcode::EMPTY_SET => Node::List(Vec::new()),
            opcode::EMPTY_TUPLE => Node::Tuple(Vec::new()),
            opcode::EMPTY_DICT => Node::Dict(Vec::new()),
            _ => return Ok(None),
        }))
    }

    fn container_or_call(&mut self, opcode: u8) -> Result<(), Fault> {
        match opcode {
            opcode::TUPLE1 => self.tuple(1),
            opcode::TUPLE2 => self.tuple(2),
            opcode::TUPLE3 => self.tuple(3),
            opcode::TUPLE | opcode::FROZEN_SET => {
                let items = self.pop_mark()?;
                self.push(Node::Tuple(items))
            }
            opcode::LIST => {
                let items = self.pop_mark()?;
                self.push(Node::List(items))
            }
            opcode::DICT => {
                let entries = pairs(&self.pop_mark()?)?;
                self.push(Node::Dict(entries))
            }
            opcode::APPEND => {
                let item = self.pop()?;
                self.append(&[item])
            }
            opcode::APPENDS | opcode::ADD_ITEMS => {
                let items = self.pop_mark()?;
                self.append(&items)
            }
            opcode::SET_ITEM => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set_items(&[key, value])
            }
            opcode::SET_ITEMS => {
                let items = self.pop_mark()?;
                self.set_items(&items)
            }
            opcode => self.call(opcode),
        }
    }

    fn call(&mut self, opcode: u8) -> Result<(), Fault> {
        match opcode {
            opcode::GLOBAL => {
                let (module, name) = (self.input.line()?, self.input.line()?);
                self.import(module, name)
            }
            opcode::STACK_GLOBAL => {
                let (name, module) = (self.pop()?, self.pop()?);
                self.import(self.arena.text(module)?, self.arena.text(name)?)
            }
            opcode::REDUCE => {
                let (arguments, callee) = (self.pop()?, self.pop()?);
                let result = self.reduce(callee, arguments)?;
                self.push_id(result)
            }
            opcode::NEW_OBJ => {
                let (arguments, class) = (self.pop()?, self.pop()?);
                let object = self.new_object(class, arguments)?;
                self.push(object)
            }
            opcode::NEW_OBJ_EX => {
                let (_keywords, arguments, class) = (self.pop()?, self.pop()?, self.pop()?);
                let object = self.new_object(class, arguments)?;
                self.push(object)
            }
            opcode::BUILD => {
                let state = self.pop()?;
                self.build(self.top()?, state)
            }
            opcode::BIN_PERS_ID => {
                let id = self.pop()?;
                let storage = self.persistent(id)?;
                self.push(storage)
            }
            // Of a buffer in the pickle itself.
            opcode::READ_ONLY_BUFFER => self.top().map(|_| ()),
            other => Err(Fault::Opcode(other)),
        }
    }

    fn import(&mut self, module: &'a str, name: &'a str) -> Result<(), Fault> {
        let global = Global::find(module, name)?;
        self.push(global.map_or_else(|| Object::of(module, name), Node::Global))
    }

    /// Takes the bytes that a call copies from those that may be: what it copies may be called for again.
    pub(super) fn copy(&mut self, bytes: usize) -> Result<(), Fault> {
        self.copies = self.copies.checked_sub(bytes).ok_or(Fault::Expansion)?;
        Ok(())
    }

    fn push(&mut self, node: Node<'a>) -> Result<(), Fault> {
        let id = self.arena.add(node)?;
        self.push_id(id)
    }

    fn push_id(&mut self, id: Id) -> Result<(), Fault> {
        if self.stack.len() >= MAX_VALUES {
            return Err(Fault::Limit { limit: MAX_VALUES, what: "values on the stack" });
        }
        self.stack.push(id);
        Ok(())
    }

    /// The top of the stack above the last mark.
    fn top(&self) -> Result<Id, Fault> {
        let floor = self.marks.last().copied().unwrap_or(0);
        self.stack.get(floor..).and_then(<[Id]>::last).copied().ok_or(Fault::Underflow)
    }

    fn pop(&mut self) -> Result<Id, Fault> {
        let id = self.top()?;
        self.stack.pop();
        Ok(id)
    }

    fn mark(&mut self) -> Result<(), Fault> {
        if self.marks.len() >= MAX_DEPTH {
            return Err(Fault::Limit { limit: MAX_DEPTH, what: "nested containers" });
        }
        self.marks.push(self.stack.len());
        Ok(())
    }

    /// Everything above the last mark, which is removed.
    fn pop_mark(&mut self) -> Result<Vec<Id>, Fault> {
        let floor = self.marks.pop().ok_or(Fault::Underflow)?;
        Ok(self.stack.split_off(floor))
    }

    fn tuple(&mut self, len: usize) -> Result<(), Fault> {
        let mut items = (0..len).map(|_| self.pop()).collect::<Result<Vec<_>, _>>()?;
        items.reverse();
        self.push(Node::Tuple(items))
    }

    fn append(&mut self, items: &[Id]) -> Result<(), Fault> {
        let list = self.top()?;
        match self.arena.get_mut(list) {
            Node::List(list) => list.extend_from_slice(items),
            Node::Object(_) => {}
            other => return Err(other.expected("a list")),
        }
        Ok(())
    }

    fn set_items(&mut self, items: &[Id]) -> Result<(), Fault> {
        let dict = self.top()?;
        match self.arena.get_mut(dict) {
            Node::Dict(entries) | Node::Object(Object { entries, .. }) => entries.extend(pairs(items)?),
            other => return Err(other.expected("a dict")),
        }
        Ok(())
    }

    fn recall(&mut self, key: u32) -> Result<(), Fault> {
        let id = *self.memo.get(&key).ok_or(Fault::Memo(key))?;
        self.push_id(id)
    }

    fn remember(&mut self, key: u32) -> Result<(), Fault> {
        let id = self.top()?;
        self.memo.insert(key, id);
        if self.memo.len() > MAX_VALUES {
            return Err(Fault::Limit { limit: MAX_VALUES, what: "memo entries" });
        }
        Ok(())
    }
}

/// An integer; one of more than 16 bytes, as in states of random generators, is an object.
fn integer(bytes: &[u8]) -> Node<'_> {
    long(bytes).map_or_else(|| Object::of("builtins", "int"), Node::Int)
}

/// Text; Python 2 wrote bytes as it did text.
fn string(bytes: &[u8]) -> Node<'_> {
    std::str::from_utf8(bytes).map_or(Node::Bytes(Cow::Borrowed(bytes)), Node::Str)
}

fn pairs(items: &[Id]) -> Result<Vec<(Id, Id)>, Fault> {
    let (pairs, rest) = items.as_chunks::<2>();
    if rest.is_empty() {
        Ok(pairs.iter().map(|&[key, value]| (key, value)).collect())
    } else {
        Err(Fault::Underflow)
    }
}
