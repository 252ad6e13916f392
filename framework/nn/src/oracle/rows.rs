//! Gathering of rows, composed of dfdx's operations: what the compositions of operations share.
//!
//! dfdx compiles the CUDA kernels of a few operations when the program runs, with headers at the paths of the machine that
//! built it: the copy of a permuted tensor (`try_contiguous`, `try_reshape_like`), `concat` and `stack`. A program that was copied
//! to another machine would fail there, so the compositions do without them.

use dfdx::shapes::{Axis, HasShape as _, ReplaceDimTo, Shape};
use dfdx::tensor::TensorFromVec as _;
use dfdx::tensor_ops::{BroadcastTo as _, GatherTo as _, TryAdd as _, TryMul as _};

use crate::error::{Error, Result};
use crate::tensor::{Tensor, Typed};
use crate::{Tape, device};

pub type T0 = Typed<()>;
pub type T1 = Typed<(usize,)>;
pub type T2 = Typed<(usize, usize)>;
pub type T3 = Typed<(usize, usize, usize)>;
pub type T4 = Typed<(usize, usize, usize, usize)>;

/// Values that need no gradient.
pub fn constant<S: Shape + Into<crate::Shape>>(values: Vec<f32>, shape: S) -> Result<Typed<S>> {
    Tensor::from_vec(values, shape, &Tape::none())?.typed(shape)
}

/// The same tensor, row-major in memory also if it was permuted.
pub fn dense<S: Shape + ReplaceDimTo<S, (usize,)>>(tensor: Typed<S>) -> Result<Typed<S>> {
    let len = tensor.shape().concrete().into_iter().next().unwrap_or_default();
    Ok(tensor.try_gather(device()?.try_tensor_from_vec((0..len).collect(), (len,))?)?)
}

/// `[index.len(), C]` from rows `[N, C]`.
pub fn gather(rows: T2, index: &[u32]) -> Result<T2> {
    let index: Vec<usize> = index.iter().map(|&row| row as usize).collect();
    let len = index.len();
    Ok(rows.try_gather(device()?.try_tensor_from_vec(index, (len,))?)?)
}

/// `rows` `[N, C]` with zeros as row `N`.
pub fn append_zeros(rows: T2) -> Result<T2> {
    let (count, channels) = *rows.shape();
    let index: Vec<u32> = (0..count as u32).chain([0]).collect();
    Ok(gather(rows, &index)?.try_mul(row_factors(count, channels, [1.0, 0.0])?)?)
}

/// `rows` `[N, C]` with `extra` `[C]` as row `N`.
pub fn append_row(rows: T2, extra: T1) -> Result<T2> {
    let (count, channels) = *rows.shape();
    let extra = extra.try_broadcast_like::<_, Axis<0>>(&(count + 1, channels))?;
    let extra = extra.try_mul(row_factors(count, channels, [0.0, 1.0])?)?;
    Ok(append_zeros(rows)?.try_add(extra)?)
}

/// A constant `[N + 1, C]`, with one value in the first `N` rows and another one in the last.
fn row_factors(count: usize, channels: usize, [first, last]: [f32; 2]) -> Result<T2> {
    let mut factors = vec![first; count];
    factors.push(last);
    let factors = constant(factors, (count + 1,))?;
    Ok(factors.try_broadcast_like::<_, Axis<1>>(&(count + 1, channels))?)
}

/// What `taps` taps read at every position, `[sources.len() / taps, taps, C]`: rows of `[N, C]`, or zeros.
pub fn gather_taps(rows: T2, sources: &[Option<usize>], taps: usize) -> Result<T3> {
    let (zero_row, channels) = *rows.shape();
    // dfdx's kernels on CUDA count in 32 bits.
    if sources.len().max(taps * (zero_row + 1)) * channels > u32::MAX as usize {
        return Err(Error::Value(format!(
            "a convolution of {taps} taps over {zero_row} positions of {channels} channels is too large for one pass; lower \
             the batch size"
        )));
    }
    let index: Vec<usize> = sources.iter().map(|source| source.unwrap_or(zero_row)).collect();
    let shape = (index.len() / taps, taps);
    Ok(append_zeros(rows)?.try_gather(device()?.try_tensor_from_vec(index, shape)?)?)
}
