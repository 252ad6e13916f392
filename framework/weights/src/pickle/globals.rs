//! The globals that a pickle may import.

use super::error::Fault;
use crate::DType;

/// A Python object that a pickle may import and that is interpreted here; none is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Global {
    OrderedDict,
    Namespace,
    RebuildTensor,
    RebuildParameter,
    /// `_rebuild_from_type_v2(function, type, arguments, state)`, of tensors with attributes.
    RebuildFromType,
    Storage(DType),
    /// `_codecs.encode` and, where there are none, `bytes`: how protocol 2 writes bytes.
    Encode,
    Bytes,
    /// `numpy.ndarray`, as an argument.
    NumpyClass,
    NumpyType,
    NumpyReconstruct,
    NumpyFromBuffer,
    NumpyScalar,
}

impl Global {
    /// The global of that name; `None` if it is not known here: what it makes is passed over.
    ///
    /// # Errors
    /// If it runs programs or code. It would not be run here, but the file is no checkpoint.
    pub fn find(module: &str, name: &str) -> Result<Option<Self>, Fault> {
        Ok(Some(match (module, name) {
            ("collections", "OrderedDict") => Self::OrderedDict,
            ("argparse", "Namespace") => Self::Namespace,
            ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Self::RebuildTensor,
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => {
                Self::RebuildParameter
            }
            ("torch._tensor", "_rebuild_from_type_v2") => Self::RebuildFromType,
            ("_codecs", "encode") => Self::Encode,
            ("__builtin__" | "builtins", "bytes") => Self::Bytes,
            ("numpy", "ndarray") => Self::NumpyClass,
            ("numpy", "dtype") => Self::NumpyType,
            ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct") => Self::NumpyReconstruct,
            ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar") => Self::NumpyScalar,
            ("numpy.core.numeric" | "numpy._core.numeric", "_frombuffer") => Self::NumpyFromBuffer,
            ("torch", storage) => {
                let dtype = DType::ALL.into_iter().find(|&dtype| storage_class(dtype) == storage);
                return Ok(dtype.map(Self::Storage));
            }
            _ if runs_code(module, name) => return Err(Fault::Global { name: named(module, name) }),
            _ => return Ok(None),
        }))
    }

    pub fn module(self) -> &'static str {
        match self {
            Self::OrderedDict => "collections",
            Self::Namespace => "argparse",
            Self::RebuildTensor | Self::RebuildParameter => "torch._utils",
            Self::RebuildFromType => "torch._tensor",
            Self::Storage(_) => "torch",
            Self::Encode => "_codecs",
            Self::Bytes => "builtins",
            Self::NumpyClass | Self::NumpyType => "numpy",
            Self::NumpyReconstruct | Self::NumpyScalar => "numpy._core.multiarray",
            Self::NumpyFromBuffer => "numpy._core.numeric",
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::OrderedDict => "OrderedDict",
            Self::Namespace => "Namespace",
            Self::RebuildTensor => "_rebuild_tensor_v2",
            Self::RebuildParameter => "_rebuild_parameter",
            Self::RebuildFromType => "_rebuild_from_type_v2",
            Self::Storage(dtype) => storage_class(dtype),
            Self::Encode => "encode",
            Self::Bytes => "bytes",
            Self::NumpyClass => "ndarray",
            Self::NumpyType => "dtype",
            Self::NumpyReconstruct => "_reconstruct",
            Self::NumpyScalar => "scalar",
            Self::NumpyFromBuffer => "_frombuffer",
        }
    }
}

/// `module.name`; of a hostile one the start is enough.
pub(super) fn named(module: &str, name: &str) -> String {
    format!("{module}.{name}").chars().take(100).collect()
}

/// Whether it starts programs, runs code, or reaches files and networks: what pickles that attack their
/// readers call.
fn runs_code(module: &str, name: &str) -> bool {
    match module {
        "os" | "posix" | "nt" | "subprocess" | "commands" | "pty" | "shutil" | "socket" | "ctypes"
        | "sys" | "importlib" | "runpy" | "pdb" | "timeit" | "webbrowser" => true,
        "builtins" | "__builtin__" => matches!(
            name,
            "eval"
                | "exec"
                | "execfile"
                | "compile"
                | "open"
                | "file"
                | "input"
                | "__import__"
                | "breakpoint"
        ),
        _ => false,
    }
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
