//! Products by cuBLASLt, with what comes with them: `D = op(A) op(B) + C`, by columns, as the library takes matrices.
//!
//! What a call needs besides its addresses is a [`Plan`], made once for each [`Kind`] of product. Which types and epilogues there are:
//! <https://docs.nvidia.com/cuda/cublas/#cublasltmatmul>.

use std::cell::{OnceCell, Ref, RefCell};
use std::collections::HashMap;
use std::ffi::c_void;
use std::rc::Rc;

use cudarc::cublas::sys::cublasOperation_t;
use cudarc::cublaslt::result::{self, CublasError};
use cudarc::cublaslt::sys::{
    cublasComputeType_t, cublasLtEpilogue_t, cublasLtHandle_t, cublasLtMatmulDesc_t,
    cublasLtMatmulDescAttributes_t as DescAttribute, cublasLtMatmulHeuristicResult_t,
    cublasLtMatmulPreference_t, cublasLtMatmulPreferenceAttributes_t as Preference, cublasLtMatrixLayout_t,
    cublasLtReductionScheme_t, cublasStatus_t, cudaDataType,
};
use cudarc::driver::sys::CUdeviceptr;
use cudarc::driver::{CudaSlice, DevicePtr as _, DeviceSlice as _};

use super::buffer::scratch;
use super::card::Card;
use super::storage::Storage;
use crate::error::Error;
use crate::{Result, profile};

/// The most memory that an algorithm may use besides: what NVIDIA recommends for Hopper.
const LARGEST_WORKSPACE: usize = 32 << 20;

/// How far the library looks at addresses; memory of the driver starts at multiples of it.
const ALIGNMENT: u64 = 256;

/// What comes with a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Epilogue {
    /// Nothing.
    None,
    /// A vector, of a value for each row of `D` and stored as `D`, is added to all columns.
    Bias,
    /// The sums of the columns of `op(B)` are written to a vector, stored as `D`.
    BiasGradient,
}

/// Products that have a plan in common. Their matrices have no gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Kind {
    /// Rows of `D`, columns of `D`, and what is summed over: at least 1 each.
    pub sizes: [usize; 3],
    /// Whether `A` and `B` are transposed.
    pub transposed: [bool; 2],
    /// How `A` and `B` are stored.
    pub operands: Storage,
    /// How `C` and `D` are stored.
    pub output: Storage,
    /// Whether factors may be rounded to TF32.
    pub tf32: bool,
    /// What comes with it.
    pub epilogue: Epilogue,
}

/// Where the matrices of a product lie.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    pub a: CUdeviceptr,
    pub b: CUdeviceptr,
    /// That of `D`, if nothing is added.
    pub c: CUdeviceptr,
    pub d: CUdeviceptr,
    /// The vector of the epilogue; 0 if there is none.
    pub vector: CUdeviceptr,
}

impl Addresses {
    /// The largest power of two that divides all.
    fn alignment(self) -> u64 {
        let Self { a, b, c, d, vector } = self;
        1 << (a | b | c | d | vector | ALIGNMENT).trailing_zeros()
    }
}

/// The plans that were made, and memory for their algorithms. What the library has given stays until the process ends.
#[derive(Default)]
pub struct Plans {
    library: OnceCell<Library>,
    /// None where the library has no such product.
    made: RefCell<HashMap<(Kind, u64), Option<Rc<Plan>>>>,
    workspace: RefCell<Option<CudaSlice<u8>>>,
}

/// The library, and what is preferred of its algorithms.
#[derive(Clone, Copy)]
struct Library {
    handle: cublasLtHandle_t,
    preference: cublasLtMatmulPreference_t,
}

/// A kind of product, described to the library, and its algorithm.
struct Plan {
    desc: cublasLtMatmulDesc_t,
    a: cublasLtMatrixLayout_t,
    b: cublasLtMatrixLayout_t,
    d: cublasLtMatrixLayout_t,
    algorithm: cublasLtMatmulHeuristicResult_t,
}

impl Plans {
    /// Starts a product on the null stream, with `C` if `adds`. Whether the library has it: otherwise nothing was started.
    ///
    /// The matrices are to lie within memory that stays until the product is done, `D` apart from all but `C`: whoever calls this has
    /// checked the lengths.
    pub fn start(&self, card: &Card, kind: Kind, at: Addresses, adds: bool) -> Result<bool> {
        let Some(plan) = self.plan(kind, at)? else { return Ok(false) };
        let [m, n, k] = kind.sizes;
        let _span = profile::matmul(m, n, k);
        checked(plan.set_vector(kind.epilogue, at.vector))?;
        let workspace = self.workspace(plan.algorithm.workspaceSize)?;
        let (alpha, beta): (f32, f32) = (1.0, if adds { 1.0 } else { 0.0 });
        // SAFETY: the descriptors are the plan's and are never destroyed; the scalars are of the type that the descriptor names, and
        // are read before the call returns; the matrices are the caller's promise; the workspace is as long as it says, and is freed in
        // the order of the stream.
        checked(unsafe {
            result::matmul(
                self.library()?.handle,
                plan.desc,
                (&raw const alpha).cast(),
                (&raw const beta).cast(),
                at.a as *const c_void,
                plan.a,
                at.b as *const c_void,
                plan.b,
                at.c as *const c_void,
                plan.d,
                at.d as *mut c_void,
                plan.d,
                &raw const plan.algorithm.algo,
                *workspace.device_ptr() as *mut c_void,
                workspace.len(),
                (*card.device.cu_stream()).cast(),
            )
        })?;
        Ok(true)
    }

    fn plan(&self, kind: Kind, at: Addresses) -> Result<Option<Rc<Plan>>> {
        let key = (kind, at.alignment());
        if let Some(plan) = self.made.borrow().get(&key) {
            return Ok(plan.clone());
        }
        let plan = match Plan::new(self.library()?, kind, at) {
            Ok(plan) => Some(Rc::new(plan)),
            Err(CublasError(
                cublasStatus_t::CUBLAS_STATUS_NOT_SUPPORTED
                | cublasStatus_t::CUBLAS_STATUS_INVALID_VALUE
                | cublasStatus_t::CUBLAS_STATUS_ARCH_MISMATCH,
            )) => {
                tracing::debug!("cuBLASLt has no product {kind:?}");
                None
            }
            Err(error) => return checked(Err(error)),
        };
        self.made.borrow_mut().insert(key, plan.clone());
        Ok(plan)
    }

    fn library(&self) -> Result<Library> {
        if let Some(&library) = self.library.get() {
            return Ok(library);
        }
        let library = checked(Library::new())?;
        Ok(*self.library.get_or_init(|| library))
    }

    /// At least that many bytes.
    fn workspace(&self, bytes: usize) -> Result<Ref<'_, CudaSlice<u8>>> {
        let has_enough = |workspace: &CudaSlice<u8>| workspace.len() >= bytes;
        if !self.workspace.borrow().as_ref().is_some_and(has_enough) {
            self.workspace.replace(Some(scratch(bytes.next_multiple_of(ALIGNMENT as usize))?));
        }
        Ref::filter_map(self.workspace.borrow(), Option::as_ref)
            .map_err(|_| Error::Device("there is no workspace".to_owned()))
    }
}

impl Library {
    fn new() -> Result<Self, CublasError> {
        let library = Self { handle: result::create_handle()?, preference: result::create_matmul_pref()? };
        library.prefer(Preference::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, LARGEST_WORKSPACE as u64)?;
        // Of sums in several parts only those that are added up in a fixed order, in the workspace.
        let reductions = cublasLtReductionScheme_t::CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE as u32;
        library.prefer(Preference::CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, reductions)?;
        Ok(library)
    }

    /// Sets an attribute, whose type is `T`.
    fn prefer<T: Copy>(self, attribute: Preference, value: T) -> Result<(), CublasError> {
        let (value, bytes) = ((&raw const value).cast(), size_of::<T>());
        // SAFETY: the preference is never destroyed; the value is copied, as long as it says.
        unsafe { result::set_matmul_pref_attribute(self.preference, attribute, value, bytes) }
    }
}

impl Plan {
    /// With the algorithm that the library deems the fastest.
    fn new(library: Library, kind: Kind, at: Addresses) -> Result<Self, CublasError> {
        let Kind { sizes: [m, n, k], transposed: [transa, transb], operands, output, tf32, epilogue } = kind;
        let compute = match tf32 {
            true => cublasComputeType_t::CUBLAS_COMPUTE_32F_FAST_TF32,
            false => cublasComputeType_t::CUBLAS_COMPUTE_32F,
        };
        let desc = result::create_matmul_desc(compute, cudaDataType::CUDA_R_32F)?;
        let operation = |transposed| match transposed {
            true => cublasOperation_t::CUBLAS_OP_T,
            false => cublasOperation_t::CUBLAS_OP_N,
        };
        let layout = |storage, transposed, rows: usize, cols: usize| {
            let (rows, cols) = if transposed { (cols, rows) } else { (rows, cols) };
            result::create_matrix_layout(data_type(storage), rows as u64, cols as u64, rows as i64)
        };
        let mut plan = Self {
            desc,
            a: layout(operands, transa, m, k)?,
            b: layout(operands, transb, k, n)?,
            d: layout(output, false, m, n)?,
            algorithm: cublasLtMatmulHeuristicResult_t::default(),
        };
        plan.set(DescAttribute::CUBLASLT_MATMUL_DESC_TRANSA, operation(transa))?;
        plan.set(DescAttribute::CUBLASLT_MATMUL_DESC_TRANSB, operation(transb))?;
        plan.set(
            DescAttribute::CUBLASLT_MATMUL_DESC_EPILOGUE,
            match epilogue {
                Epilogue::None => cublasLtEpilogue_t::CUBLASLT_EPILOGUE_DEFAULT,
                Epilogue::Bias => cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS,
                Epilogue::BiasGradient => cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BGRADB,
            },
        )?;
        // The library looks at its alignment.
        plan.set_vector(epilogue, at.vector)?;
        plan.algorithm = plan.fastest(library, at.alignment())?;
        Ok(plan)
    }

    /// The library's first suggestion for matrices that are aligned so.
    fn fastest(
        &self,
        library: Library,
        alignment: u64,
    ) -> Result<cublasLtMatmulHeuristicResult_t, CublasError> {
        for attribute in [
            Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
            Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
            Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
            Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES,
        ] {
            library.prefer(attribute, alignment as u32)?;
        }
        let Self { desc, a, b, d, .. } = *self;
        result::get_matmul_algo_heuristic(library.handle, desc, a, b, d, d, library.preference)
    }

    fn set_vector(&self, epilogue: Epilogue, vector: CUdeviceptr) -> Result<(), CublasError> {
        match epilogue {
            Epilogue::None => Ok(()),
            Epilogue::Bias | Epilogue::BiasGradient => {
                self.set(DescAttribute::CUBLASLT_MATMUL_DESC_BIAS_POINTER, vector)
            }
        }
    }

    /// Sets an attribute, whose type is `T`.
    fn set<T: Copy>(&self, attribute: DescAttribute, value: T) -> Result<(), CublasError> {
        // SAFETY: the descriptor is never destroyed; the value is copied, as long as it says.
        unsafe {
            result::set_matmul_desc_attribute(self.desc, attribute, (&raw const value).cast(), size_of::<T>())
        }
    }
}

fn data_type(storage: Storage) -> cudaDataType {
    match storage {
        Storage::F32 => cudaDataType::CUDA_R_32F,
        Storage::Bf16 => cudaDataType::CUDA_R_16BF,
    }
}

/// The result of the library, with an error as those of dfdx, which does not know it.
fn checked<T>(result: Result<T, CublasError>) -> Result<T> {
    result.map_err(|error| match error {
        CublasError(cublasStatus_t::CUBLAS_STATUS_ALLOC_FAILED) => Error::OutOfMemory,
        error => Error::Device(error.to_string()),
    })
}
