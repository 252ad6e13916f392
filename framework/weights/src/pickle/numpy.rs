//! Arrays, types and scalars of numpy, as its `__reduce__` methods pickle them.

use std::borrow::Cow;

use super::arena::{Id, Node, Object};
use super::error::Fault;
use super::globals::Global;
use super::limits::MAX_AXES;
use super::machine::Machine;
use crate::DType;

/// `numpy.dtype(code)`, whose state then tells the order of the bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct NumpyType<'a> {
    code: &'a str,
    is_big_endian: bool,
}

impl NumpyType<'_> {
    /// The element type, if it has a counterpart here.
    pub fn dtype(self) -> Option<DType> {
        let dtype = match self.code {
            "b1" => DType::Bool,
            "i1" => DType::I8,
            "u1" => DType::U8,
            "i2" => DType::I16,
            "i4" => DType::I32,
            "i8" => DType::I64,
            "f2" => DType::F16,
            "f4" => DType::F32,
            "f8" => DType::F64,
            _ => return None,
        };
        (!self.is_big_endian || dtype.size() == 1).then_some(dtype)
    }
}

#[derive(Clone, Debug)]
pub(super) struct NumpyArray<'a> {
    pub ty: NumpyType<'a>,
    pub shape: Vec<usize>,
    /// Whether the first axis is the innermost one.
    pub fortran: bool,
    /// The bytes, or a list of objects.
    pub data: Id,
}

impl<'a> Machine<'a> {
    /// What a call of one of numpy's functions gives.
    pub(super) fn numpy(&self, function: Global, arguments: &[Id]) -> Result<Node<'a>, Fault> {
        match (function, arguments) {
            // (code, align, copy)
            (Global::NumpyType, &[code, _, _]) => {
                Ok(Node::NumpyType(NumpyType { code: self.arena.text(code)?, is_big_endian: false }))
            }
            // (class, shape, type), both placeholders
            (Global::NumpyReconstruct, &[_, _, _]) => Ok(Node::NumpyArray(None)),
            // (buffer, type, shape, order)
            (Global::NumpyFromBuffer, &[data, ty, shape, order]) => {
                let fortran = self.arena.text(order)? == "F";
                Ok(Node::NumpyArray(Some(self.numpy_array(ty, shape, fortran, data)?)))
            }
            (Global::NumpyScalar, &[ty, data]) => Ok(self.numpy_scalar(ty, data)),
            _ => Err(Fault::Call { name: function.name(), what: "unknown arguments" }),
        }
    }

    /// `(version, order, ..)`
    pub(super) fn set_numpy_type(&mut self, ty: Id, state: Id) -> Result<(), Fault> {
        let &[_, order, ..] = self.arena.tuple(state)? else {
            return Err(self.arena.get(state).expected("the state of a numpy type"));
        };
        let is_big_endian = matches!(self.arena.get(order), Node::Str(">"));
        if let Node::NumpyType(ty) = self.arena.get_mut(ty) {
            ty.is_big_endian = is_big_endian;
        }
        Ok(())
    }

    /// `(version, shape, type, is_fortran, data)`
    pub(super) fn set_numpy_array(&mut self, array: Id, state: Id) -> Result<(), Fault> {
        let &[_, shape, ty, fortran, data] = self.arena.tuple(state)? else {
            return Err(self.arena.get(state).expected("the state of a numpy array"));
        };
        let fortran = matches!(self.arena.get(fortran), Node::Bool(true) | Node::Int(1));
        let content = self.numpy_array(ty, shape, fortran, data)?;
        *self.arena.get_mut(array) = Node::NumpyArray(Some(content));
        Ok(())
    }

    fn numpy_array(&self, ty: Id, shape: Id, fortran: bool, data: Id) -> Result<NumpyArray<'a>, Fault> {
        let Node::NumpyType(ty) = *self.arena.get(ty) else {
            return Err(self.arena.get(ty).expected("a numpy type"));
        };
        Ok(NumpyArray { ty, shape: self.sizes(shape)?, fortran, data })
    }

    /// A number; of another type an object.
    fn numpy_scalar(&self, ty: Id, data: Id) -> Node<'a> {
        let other = Object::of("numpy", "generic");
        let (Node::NumpyType(ty), Some(bytes)) = (self.arena.get(ty), self.arena.bytes(data)) else {
            return other;
        };
        match (ty.dtype(), bytes) {
            (Some(DType::Bool), &[byte]) => Node::Bool(byte != 0),
            (Some(DType::I8), &[byte]) => Node::Int((byte as i8).into()),
            (Some(DType::U8), &[byte]) => Node::Int(byte.into()),
            (Some(DType::I16), &[a, b]) => Node::Int(i16::from_le_bytes([a, b]).into()),
            (Some(DType::I32), &[a, b, c, d]) => Node::Int(i32::from_le_bytes([a, b, c, d]).into()),
            (Some(DType::F32), &[a, b, c, d]) => Node::Float(f32::from_le_bytes([a, b, c, d]).into()),
            (Some(DType::I64), bytes) => {
                bytes.try_into().map_or(other, |bytes| Node::Int(i64::from_le_bytes(bytes).into()))
            }
            (Some(DType::F64), bytes) => {
                bytes.try_into().map_or(other, |bytes| Node::Float(f64::from_le_bytes(bytes)))
            }
            _ => other,
        }
    }

    /// `_codecs.encode(text, "latin1")`: the bytes, a letter each.
    pub(super) fn encode(&mut self, text: Id, encoding: Id) -> Result<Node<'a>, Fault> {
        let text = self.arena.text(text)?;
        self.copy(text.len())?;
        let latin1 = || text.chars().map(|letter| u8::try_from(letter).ok()).collect::<Option<Vec<u8>>>();
        let bytes = match self.arena.text(encoding)? {
            "latin1" | "latin-1" => latin1(),
            _ => None,
        };
        Ok(bytes.map_or(Object::of("_codecs", "encode"), |bytes| Node::Bytes(Cow::Owned(bytes))))
    }

    pub(super) fn sizes(&self, id: Id) -> Result<Vec<usize>, Fault> {
        let items = self.arena.tuple(id)?;
        if items.len() > MAX_AXES {
            return Err(Fault::Limit { limit: MAX_AXES, what: "axes" });
        }
        items.iter().map(|&item| self.arena.size(item)).collect()
    }
}
