//! Rows by index, composed of dfdx's operations.

use dfdx::tensor_ops::{ReshapeTo as _, TryAdd as _};

use super::rows::{T2, append_row, append_zeros, gather};
use crate::Param;
use crate::error::Result;
use crate::tensor::Tensor;

pub fn take_rows(x: Tensor, extra: Option<&Param>, index: &[u32]) -> Result<Tensor> {
    let (batch, tokens, channels) = x.dims3()?;
    let tape = x.tape();
    let mut rows = x.typed((batch * tokens, channels))?;
    if let Some(extra) = extra {
        rows = append_row(rows, extra.tensor(&tape)?)?;
    }
    Tensor::from_typed(gather(rows, index)?)?.reshape((batch, index.len() / batch, channels))
}

pub fn add_rows(x: Tensor, table: &Param, index: &[u32]) -> Result<Tensor> {
    let (batch, tokens, channels) = x.dims3()?;
    let tape = x.tape();
    let rows: T2 = table.tensor(&tape)?.try_reshape_like(&(table.numel() / channels, channels))?;
    let rows = append_zeros(rows)?;
    let x = x.typed((batch * tokens, channels))?;
    Tensor::from_typed(x.try_add(gather(rows, index)?)?)?.reshape((batch, tokens, channels))
}
