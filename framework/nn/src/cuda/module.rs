//! Kernels: compiled by `build.rs`, loaded when they are first used.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{CString, c_void};

use cudarc::driver::result::{launch_kernel, module};
use cudarc::driver::sys::{CUdeviceptr, CUfunction, CUmodule};
use cudarc::driver::{CudaSlice, DevicePtr};

use super::card::{Card, card, checked};
use super::storage::Storage;
use super::{Buffer, Values};
use crate::error::Error;
use crate::{Result, profile};

/// Threads of a block, as in `kernels/common.cuh`.
const THREADS: usize = 256;

/// Values of a block in kernels over a table of tensors, as in `kernels/common.cuh`.
pub const CHUNK: usize = 16 * THREADS;

/// Threads that take a row, or one column each.
const WARP: usize = 32;

/// Blocks that keep the largest cards busy; in kernels over elements, each takes more than one.
const BLOCKS: usize = 16 * 132;

/// A file of kernels.
pub struct Source {
    /// Its name, without its extension.
    pub name: &'static str,
    /// What nvcc made of it.
    pub image: &'static [u8],
}

/// The file of kernels of that name.
macro_rules! source {
    ($name:literal) => {
        $crate::backend::cuda::module::Source {
            name: $name,
            image: include_bytes!(concat!(env!("OUT_DIR"), "/", $name, ".fatbin")),
        }
    };
}
pub(super) use source;

/// What was loaded of a card's kernels, by file and name. It stays until the process ends.
#[derive(Default)]
pub struct Functions {
    modules: RefCell<HashMap<&'static str, CUmodule>>,
    functions: RefCell<HashMap<(&'static str, &'static str), CUfunction>>,
}

/// Blocks of a launch, along x, y and z, and the threads of each.
#[derive(Debug, Clone, Copy)]
pub struct Grid {
    blocks: [usize; 3],
    threads: usize,
}

impl Grid {
    fn new(blocks: [usize; 3]) -> Self {
        Self { blocks, threads: THREADS }
    }

    /// Threads that share so many elements (`each`).
    pub fn elements(count: usize) -> Self {
        Self::new([count.div_ceil(THREADS).min(BLOCKS), 1, 1])
    }

    /// A single block.
    pub fn one() -> Self {
        Self::new([1, 1, 1])
    }

    /// A warp for each row.
    pub fn rows(rows: usize) -> Self {
        Self::new([rows.div_ceil(THREADS / WARP), 1, 1])
    }

    /// A block for each item.
    pub fn items(count: usize) -> Self {
        Self::new([count, 1, 1])
    }

    /// Blocks that sum the columns of rows in so many chunks (`sum_columns`), for each of so many results.
    pub fn columns(columns: usize, chunks: usize, results: usize) -> Self {
        Self::new([columns.div_ceil(WARP), chunks, results])
    }

    /// Blocks of so many warps, for kernels that are not written for THREADS threads.
    pub fn of_warps(self, warps: usize) -> Self {
        Self { threads: warps * WARP, ..self }
    }

    /// How many blocks there are.
    pub fn blocks(self) -> usize {
        self.blocks.iter().product()
    }
}

/// The blocks of a kernel over a table of tensors, each of [`CHUNK`] values of one of them.
#[derive(Debug, Default)]
pub struct Blocks(usize);

impl Blocks {
    /// The first block of the next tensor, which has so many values.
    pub fn add(&mut self, values: usize) -> u32 {
        let first = self.0;
        self.0 += values.div_ceil(CHUNK);
        first as u32
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0
    }
}

impl Source {
    /// Starts a kernel of this file on the card of this thread, which takes all values in `f32`. A grid without blocks is no work.
    ///
    /// The arguments are to be those of the kernel's declaration, in number, order and kind, and the memory that it accesses is to
    /// lie within them: whoever calls this stands beside the kernel and has checked the lengths.
    pub fn launch(&self, kernel: &'static str, grid: Grid, arguments: &[Argument]) -> Result<()> {
        if arguments.iter().any(|argument| argument.storage == Storage::Bf16) {
            return Err(Error::Device(format!("the kernel `{kernel}` of {} takes no bf16", self.name)));
        }
        self.launch_stored(kernel, grid, arguments)
    }

    /// [`Source::launch`] of a kernel that takes these values as they are stored.
    pub fn launch_stored(
        &self,
        kernel: &'static str,
        Grid { blocks, threads }: Grid,
        arguments: &[Argument],
    ) -> Result<()> {
        if blocks.contains(&0) {
            return Ok(());
        }
        let _span = profile::kernel(self.name);
        let card = card()?;
        let function = self.function(&card, kernel)?;
        let [x, y, z] = blocks.map(|blocks| blocks as u32);
        let mut pointers: Vec<_> =
            arguments.iter().map(|argument| (&raw const argument.bits).cast::<c_void>().cast_mut()).collect();
        let block = (threads as u32, 1, 1);
        // SAFETY: the function is of a module that is never unloaded; the driver copies each argument, of the kind that the kernel
        // declares, before it returns; what the kernel accesses lives until all that was given to the null stream before the
        // memory's release is done, and lies within the arguments, as the caller has checked.
        checked(unsafe {
            launch_kernel(function, (x, y, z), block, 0, *card.device.cu_stream(), &mut pointers)
        })
    }

    fn function(&self, card: &Card, kernel: &'static str) -> Result<CUfunction> {
        let key = (self.name, kernel);
        if let Some(&function) = card.functions.functions.borrow().get(&key) {
            return Ok(function);
        }
        let module = self.module(card)?;
        let name = CString::new(kernel).map_err(|error| Error::Device(error.to_string()))?;
        // SAFETY: the module was loaded and is never unloaded.
        let function = checked(unsafe { module::get_function(module, name) })?;
        card.functions.functions.borrow_mut().insert(key, function);
        Ok(function)
    }

    fn module(&self, card: &Card) -> Result<CUmodule> {
        if let Some(&module) = card.functions.modules.borrow().get(self.name) {
            return Ok(module);
        }
        // A text has to end with 0; behind a binary image it is not read.
        let image = [self.image, &[0]].concat();
        // SAFETY: the image is what nvcc wrote, whole, and the driver keeps no pointer to it.
        let module = checked(unsafe { module::load_data(image.as_ptr().cast()) })?;
        card.functions.modules.borrow_mut().insert(self.name, module);
        Ok(module)
    }
}

/// An argument of a kernel.
#[derive(Debug, Clone, Copy)]
pub struct Argument {
    /// Its bytes from the first one on, in the order of the processor, which is the card's.
    bits: u64,
    /// How the values that it points at are stored.
    storage: Storage,
}

impl Argument {
    fn plain(bits: u64) -> Self {
        Self { bits, storage: Storage::F32 }
    }
}

/// What kernels take.
pub trait AsArgument {
    /// As an argument.
    fn argument(&self) -> Argument;
}

/// `float *`, `const float *`; `Bf16 *`, `const Bf16 *`.
impl AsArgument for Values {
    fn argument(&self) -> Argument {
        Argument { bits: self.address(), storage: self.storage() }
    }
}

/// As [`Values`].
impl AsArgument for Buffer {
    fn argument(&self) -> Argument {
        Values::argument(self)
    }
}

/// As [`Values`], null where there are none.
impl AsArgument for Option<&Values> {
    fn argument(&self) -> Argument {
        self.map_or(Argument::plain(0), Values::argument)
    }
}

/// `T *`, `const T *`.
impl<T> AsArgument for CudaSlice<T> {
    fn argument(&self) -> Argument {
        Argument::plain(*self.device_ptr())
    }
}

/// Null where there are none.
impl<T> AsArgument for Option<CudaSlice<T>> {
    fn argument(&self) -> Argument {
        self.as_ref().map_or(Argument::plain(0), CudaSlice::argument)
    }
}

/// An address that its owner gives for a launch.
#[derive(Debug, Clone, Copy)]
pub struct Address(pub CUdeviceptr);

/// `T *`, `const T *`.
impl AsArgument for Address {
    fn argument(&self) -> Argument {
        Argument::plain(self.0)
    }
}

/// `unsigned`. What is counted fits: no buffer is longer.
impl AsArgument for usize {
    fn argument(&self) -> Argument {
        Argument::plain(u64::from(*self as u32))
    }
}

/// `float`.
impl AsArgument for f32 {
    fn argument(&self) -> Argument {
        Argument::plain(u64::from(self.to_bits()))
    }
}

/// `double`.
impl AsArgument for f64 {
    fn argument(&self) -> Argument {
        Argument::plain(self.to_bits())
    }
}

/// The arguments of a kernel.
macro_rules! arguments {
    ($($argument:expr),* $(,)?) => {
        &[$($crate::backend::cuda::module::AsArgument::argument(&$argument)),*]
    };
}
pub(super) use arguments;
