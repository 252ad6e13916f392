//! Attention of heads, composed of dfdx's operations.

use dfdx::shapes::{Axes2, Axes3, Axes4, Axes5, Axis};
use dfdx::tensor::TensorFromVec as _;
use dfdx::tensor_ops::{
    BroadcastTo as _, PermuteTo as _, ReshapeTo as _, SelectTo as _, TryAdd as _, TryMatMul as _, TryMul as _,
};

use super::rows::{T2, T3, T4, dense, gather};
use crate::error::Result;
use crate::layers::RelativePositions;
use crate::tensor::Tensor;
use crate::{Param, Tape, device};

pub fn attention(qkv: Tensor, heads: usize, positions: Option<&RelativePositions>) -> Result<Tensor> {
    let (batch, tokens, channels) = qkv.dims3()?;
    let (head_dim, tape) = (channels / 3 / heads, qkv.tape());
    let qkv =
        qkv.typed((batch, tokens, 3usize, heads, head_dim))?.try_permute::<_, Axes5<2, 0, 3, 1, 4>>()?;
    // Images and heads are one axis: one batch of products, not one for every image.
    let part = |index: usize| -> Result<T3> {
        let part: T4 = qkv.clone().try_select(device()?.try_tensor_from_vec(vec![index], ())?)?;
        Ok(part.try_reshape_like(&(batch * heads, tokens, head_dim))?)
    };
    let keys = part(1)?.try_permute::<_, Axes3<0, 2, 1>>()?;
    let scores: T3 = part(0)?.try_matmul(keys)?.try_mul((head_dim as f32).powf(-0.5))?;
    let scores = match positions.map(|positions| (positions.params(), positions.grid())) {
        Some(([rows, cols], grid)) => scores.try_add(decomposed(part(0)?, [rows, cols], grid, &tape)?)?,
        Some((tables, grid)) => {
            let by_head = (batch, heads, tokens, tokens);
            let cls_token = positions.is_some_and(RelativePositions::has_cls_token);
            let biases =
                biases(&tables[0], grid, cls_token, &tape)?.try_broadcast_like::<_, Axis<0>>(&by_head)?;
            // What is broadcast cannot change its shape without a copy.
            let biased = scores.try_reshape_like(&by_head)?.try_add(biases)?;
            biased.try_reshape_like(&(batch * heads, tokens, tokens))?
        }
        None => scores,
    };
    let output: T3 = scores.try_softmax::<Axis<2>>()?.try_matmul(part(2)?)?;
    let output = output.try_reshape_like(&(batch, heads, tokens, head_dim))?;
    let output = dense(output.try_permute::<_, Axes4<0, 2, 1, 3>>()?)?;
    Tensor::from_typed(output)?.reshape((batch, tokens, channels / 3))
}

/// The biases of all scores, `[H, N, N]`.
fn biases(table: &Param, grid: (usize, usize), cls_token: bool, tape: &Tape) -> Result<T3> {
    let (rows, heads) = (table.shape()[0], table.shape()[1]);
    let table: T2 = table.tensor(tape)?.try_reshape_like(&(rows, heads))?;
    let mut index = offsets_of(grid, |[row, col]| row * (2 * grid.1 - 1) + col);
    let mut tokens = grid.0 * grid.1;
    if cls_token {
        let rows = rows as u32;
        let of_cls = std::iter::once(rows - 1).chain(std::iter::repeat_n(rows - 3, tokens));
        let others = index
            .chunks(tokens)
            .flat_map(|of_query| std::iter::once(&(rows - 2)).chain(of_query).copied().collect::<Vec<_>>());
        index = of_cls.chain(others).collect();
        tokens += 1;
    }
    let by_head = dense(gather(table, &index)?.try_permute::<_, Axes2<1, 0>>()?)?;
    Ok(by_head.try_reshape_like(&(heads, tokens, tokens))?)
}

/// The products of queries, `[B * H, N, d]`, with the embeddings of the offsets of all keys, `[B * H, N, N]`.
fn decomposed(queries: T3, tables: [&Param; 2], grid: (usize, usize), tape: &Tape) -> Result<T3> {
    let (tokens, dim) = (grid.0 * grid.1, tables[0].shape()[1]);
    let gathered = |side: usize| -> Result<T2> {
        let rows = tables[side].shape()[0];
        let table: T2 = tables[side].tensor(tape)?.try_reshape_like(&(rows, dim))?;
        gather(table, &offsets_of(grid, |offset| offset[side]))
    };
    let embeddings: T3 = gathered(0)?.try_add(gathered(1)?)?.try_reshape_like(&(tokens, tokens, dim))?;
    let queries = dense(queries.try_permute::<_, Axes3<1, 0, 2>>()?)?;
    let products: T3 = queries.try_matmul(embeddings.try_permute::<_, Axes3<0, 2, 1>>()?)?;
    dense(products.try_permute::<_, Axes3<1, 0, 2>>()?)
}

/// For every query and key, `[N, N]`, the row of a table for their offsets in rows and in columns, which count from 0.
fn offsets_of((rows, cols): (usize, usize), row: impl Fn([usize; 2]) -> usize) -> Vec<u32> {
    let tokens = rows * cols;
    let offset = |at: usize| {
        let (query, key) = (at / tokens, at % tokens);
        row([query / cols + rows - 1 - key / cols, query % cols + cols - 1 - key % cols]) as u32
    };
    (0..tokens * tokens).map(offset).collect()
}
