//! A tensor in host memory, as it lies in a file.

use std::fmt;

use half::{bf16, f16};
use thiserror::Error;

/// The element type of a [`HostTensor`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum DType {
    F16,
    BF16,
    F32,
    F64,
    I8,
    U8,
    I16,
    I32,
    I64,
    Bool,
}

impl DType {
    /// All element types.
    pub const ALL: [Self; 10] = [
        Self::F16,
        Self::BF16,
        Self::F32,
        Self::F64,
        Self::I8,
        Self::U8,
        Self::I16,
        Self::I32,
        Self::I64,
        Self::Bool,
    ];

    /// Bytes per element.
    pub const fn size(self) -> usize {
        match self {
            Self::I8 | Self::U8 | Self::Bool => 1,
            Self::F16 | Self::BF16 | Self::I16 => 2,
            Self::F32 | Self::I32 => 4,
            Self::F64 | Self::I64 => 8,
        }
    }

    /// The name safetensors uses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F16 => "F16",
            Self::BF16 => "BF16",
            Self::F32 => "F32",
            Self::F64 => "F64",
            Self::I8 => "I8",
            Self::U8 => "U8",
            Self::I16 => "I16",
            Self::I32 => "I32",
            Self::I64 => "I64",
            Self::Bool => "BOOL",
        }
    }

    pub(super) fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A shape, data or view that does not make a tensor.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TensorError {
    /// The element count or byte count does not fit into a `usize`.
    #[error("shape {shape:?} overflows")]
    Overflow {
        /// The shape concerned.
        shape: Vec<usize>,
    },
    /// The data is longer or shorter than shape and type say.
    #[error("{dtype} {shape:?} takes {expected} bytes, the data has {found}")]
    Size {
        /// The element type.
        dtype: DType,
        /// The shape.
        shape: Vec<usize>,
        /// Bytes that type and shape ask for.
        expected: usize,
        /// Bytes given.
        found: usize,
    },
    /// The view reaches beyond its storage.
    #[error(
        "shape {shape:?} with strides {strides:?} from element {offset} leaves its storage of {len} elements"
    )]
    View {
        /// The view's shape.
        shape: Vec<usize>,
        /// Its strides in elements.
        strides: Vec<usize>,
        /// Its first element.
        offset: usize,
        /// Elements in the storage.
        len: usize,
    },
}

/// A dense tensor in host memory: contiguous, row-major, little endian.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostTensor {
    /// Element type.
    pub dtype: DType,
    /// Sizes of the axes, outermost first; empty for a scalar.
    pub shape: Vec<usize>,
    /// The elements' bytes.
    pub data: Vec<u8>,
}

impl HostTensor {
    /// A tensor of the bytes `data`.
    ///
    /// # Errors
    /// If `data` is not as long as `dtype` and `shape` ask for.
    pub fn new(dtype: DType, shape: Vec<usize>, data: Vec<u8>) -> Result<Self, TensorError> {
        let tensor = Self { dtype, shape, data };
        tensor.check()?;
        Ok(tensor)
    }

    /// An `F32` tensor.
    ///
    /// # Errors
    /// If the number of values is not the product of `shape`.
    pub fn from_f32(shape: Vec<usize>, values: &[f32]) -> Result<Self, TensorError> {
        let mut data = Vec::with_capacity(values.len() * 4);
        for value in values {
            data.extend_from_slice(&value.to_le_bytes());
        }
        Self::new(DType::F32, shape, data)
    }

    /// An `I64` scalar.
    pub fn scalar_i64(value: i64) -> Self {
        Self { dtype: DType::I64, shape: Vec::new(), data: value.to_le_bytes().to_vec() }
    }

    /// An `F64` scalar.
    pub fn scalar_f64(value: f64) -> Self {
        Self { dtype: DType::F64, shape: Vec::new(), data: value.to_le_bytes().to_vec() }
    }

    /// The value of an `I64` scalar.
    pub fn as_i64(&self) -> Option<i64> {
        let bytes = self.data.as_slice().try_into().ok()?;
        (self.dtype == DType::I64 && self.shape.is_empty()).then(|| i64::from_le_bytes(bytes))
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.data.len() / self.dtype.size()
    }

    /// Whether the tensor has no elements.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// The values as `f32`, rounded to nearest where the type is wider; booleans are 0 and 1.
    pub fn to_f32(&self) -> Vec<f32> {
        match self.dtype {
            DType::F16 => self.cast(|b| f16::from_le_bytes(b).to_f32()),
            DType::BF16 => self.cast(|b| bf16::from_le_bytes(b).to_f32()),
            DType::F32 => self.cast(f32::from_le_bytes),
            DType::F64 => self.cast(|b| f64::from_le_bytes(b) as f32),
            DType::I8 => self.cast(|b| f32::from(i8::from_le_bytes(b))),
            DType::U8 => self.cast(|[b]: [u8; 1]| f32::from(b)),
            DType::I16 => self.cast(|b| f32::from(i16::from_le_bytes(b))),
            DType::I32 => self.cast(|b| i32::from_le_bytes(b) as f32),
            DType::I64 => self.cast(|b| i64::from_le_bytes(b) as f32),
            DType::Bool => self.cast(|[b]: [u8; 1]| f32::from(u8::from(b != 0))),
        }
    }

    /// Whether `data` is as long as `dtype` and `shape` ask for.
    pub(super) fn check(&self) -> Result<(), TensorError> {
        let expected = byte_len(self.dtype, &self.shape)?;
        if self.data.len() == expected {
            return Ok(());
        }
        Err(TensorError::Size {
            dtype: self.dtype,
            shape: self.shape.clone(),
            expected,
            found: self.data.len(),
        })
    }

    fn cast<const N: usize>(&self, element: impl Fn([u8; N]) -> f32) -> Vec<f32> {
        self.data.as_chunks::<N>().0.iter().map(|bytes| element(*bytes)).collect()
    }
}

/// Bytes that a tensor of this type and shape takes.
pub(super) fn byte_len(dtype: DType, shape: &[usize]) -> Result<usize, TensorError> {
    shape
        .iter()
        .try_fold(dtype.size(), |bytes, &axis| bytes.checked_mul(axis))
        .ok_or_else(|| TensorError::Overflow { shape: shape.to_vec() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::float_cmp)]

    use super::*;

    #[test]
    fn f32_values_come_back_bitwise() {
        let values = [0.0, -0.0, 1.5, f32::MIN_POSITIVE, f32::INFINITY, f32::NAN];
        let back = HostTensor::from_f32(vec![2, 3], &values).unwrap().to_f32();
        assert_eq!(back.map_bits(), values.to_vec().map_bits());
    }

    #[test]
    fn every_type_casts_to_f32() {
        let cases: [(DType, Vec<u8>, f32); 10] = [
            (DType::F16, f16::from_f32(-1.5).to_le_bytes().to_vec(), -1.5),
            (DType::BF16, bf16::from_f32(-1.5).to_le_bytes().to_vec(), -1.5),
            (DType::F32, (-1.5f32).to_le_bytes().to_vec(), -1.5),
            (DType::F64, (-1.5f64).to_le_bytes().to_vec(), -1.5),
            (DType::I8, vec![0xfe], -2.0),
            (DType::U8, vec![0xfe], 254.0),
            (DType::I16, (-300i16).to_le_bytes().to_vec(), -300.0),
            (DType::I32, (-70_000i32).to_le_bytes().to_vec(), -70_000.0),
            (DType::I64, (1i64 << 40).to_le_bytes().to_vec(), (1i64 << 40) as f32),
            (DType::Bool, vec![1], 1.0),
        ];
        for (dtype, data, expected) in cases {
            assert_eq!(HostTensor::new(dtype, vec![1], data).unwrap().to_f32(), [expected], "{dtype}");
        }
    }

    #[test]
    fn data_of_another_length_is_refused() {
        assert!(matches!(
            HostTensor::new(DType::F32, vec![2, 2], vec![0; 15]),
            Err(TensorError::Size { expected: 16, found: 15, .. })
        ));
        assert!(matches!(
            HostTensor::new(DType::F64, vec![usize::MAX, 2], vec![]),
            Err(TensorError::Overflow { .. })
        ));
    }

    trait MapBits {
        fn map_bits(&self) -> Vec<u32>;
    }

    impl MapBits for Vec<f32> {
        fn map_bits(&self) -> Vec<u32> {
            self.iter().map(|value| value.to_bits()).collect()
        }
    }
}
