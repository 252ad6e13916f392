//! The globals that a pickle may import.

use super::error::Fault;
use crate::DType;

/// A Python object that a pickle may import; each is interpreted here, none is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Global {
    OrderedDict,
    Namespace,
    RebuildTensor,
    RebuildParameter,
    Storage(DType),
}

impl Global {
    pub fn find(module: &str, name: &str) -> Result<Self, Fault> {
        match (module, name) {
            ("collections", "OrderedDict") => Ok(Self::OrderedDict),
            ("argparse", "Namespace") => Ok(Self::Namespace),
            ("torch._utils", "_rebuild_tensor_v2") => Ok(Self::RebuildTensor),
            ("torch._utils", "_rebuild_parameter") => Ok(Self::RebuildParameter),
            ("torch", storage) => DType::ALL
                .into_iter()
                .find(|&dtype| storage_class(dtype) == storage)
                .map(Self::Storage)
                .ok_or_else(|| refused(module, name)),
            _ => Err(refused(module, name)),
        }
    }

    pub fn module(self) -> &'static str {
        match self {
            Self::OrderedDict => "collections",
            Self::Namespace => "argparse",
            Self::RebuildTensor | Self::RebuildParameter => "torch._utils",
            Self::Storage(_) => "torch",
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::OrderedDict => "OrderedDict",
            Self::Namespace => "Namespace",
            Self::RebuildTensor => "_rebuild_tensor_v2",
            Self::RebuildParameter => "_rebuild_parameter",
            Self::Storage(dtype) => storage_class(dtype),
        }
    }
}

fn refused(module: &str, name: &str) -> Fault {
    // Of a hostile name the start is enough.
    let name = format!("{module}.{name}").chars().take(100).collect();
    Fault::Global { name }
}

fn storage_class(dtype: DType) -> &'static str {
    match dtype {
        DType::F16 => "HalfStorage",
        DType::BF16 => "BFloat16Storage",
        DType::F32 => "FloatStorage",
        DType::F64 => "DoubleStorage",
        DType::I8 => "CharStorage",
        DType::U8 => "ByteStorage",
        DType::I16 => "ShortStorage",
        DType::I32 => "IntStorage",
        DType::I64 => "LongStorage",
        DType::Bool => "BoolStorage",
    }
}
