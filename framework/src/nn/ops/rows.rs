//! Gathering of rows, composed of dfdx's operations: what the compositions of convolutions and token operations share.

use dfdx::shapes::{Axis, HasShape as _};
use dfdx::tensor::{SplitTape as _, TensorFromVec as _};
use dfdx::tensor_ops::{GatherTo as _, ReshapeTo as _, TryConcatAlong as _};

use crate::nn::tensor::{Result, T1, T2, T3, device, from_vec};

/// `rows` `[N, C]` with `extra` `[C]` as row `N`.
pub(super) fn append_row(rows: T2, extra: T1) -> Result<T2> {
    let (_, channels) = *rows.shape();
    let extra: T2 = extra.try_reshape_like(&(1, channels))?;
    Ok((rows, extra).try_concat_along(Axis::<0>)?)
}

/// `[index.len(), C]` from rows `[N, C]`.
pub(super) fn gather(rows: T2, index: &[u32]) -> Result<T2> {
    let index: Vec<usize> = index.iter().map(|&row| row as usize).collect();
    let len = index.len();
    Ok(rows.try_gather(device().try_tensor_from_vec(index, (len,))?)?)
}

/// What `taps` taps read at every position, `[sources.len() / taps, taps, C]`: rows of `[N, C]`, or zeros.
pub(super) fn gather_taps(rows: T2, sources: &[Option<usize>], taps: usize) -> Result<T3> {
    let (zero_row, channels) = *rows.shape();
    let (rows, tape) = rows.split_tape();
    let zeros = from_vec(vec![0.0; channels], (channels,), &tape)?;
    let rows = append_row(dfdx::tensor::PutTape::put_tape(rows, tape), zeros)?;
    let index: Vec<usize> = sources.iter().map(|source| source.unwrap_or(zero_row)).collect();
    let shape = (index.len() / taps, taps);
    Ok(rows.try_gather(device().try_tensor_from_vec(index, shape)?)?)
}
