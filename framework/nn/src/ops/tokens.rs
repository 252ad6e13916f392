//! Tokens: taken, put back, prepended, and given their positions.

use crate::Param;
use crate::tensor::{Error, Result, Tensor};

#[cfg(feature = "cuda")]
use composed::{add_rows, take_rows};
#[cfg(not(feature = "cuda"))]
use kernel::{add_rows, take_rows};

/// The tokens `ids`, `[B, M]`, of `x`, `[B, N, C]`: `[B, M, C]`. A token may be taken many times, or never.
pub fn gather_tokens(x: Tensor, ids: &[u32]) -> Result<Tensor> {
    let (batch, tokens, _) = x.dims3()?;
    check_ids(ids, batch, tokens)?;
    let per_image = ids.len() / batch;
    let index =
        index(batch, per_image, |image, place| image * tokens + ids[image * per_image + place] as usize);
    take_rows(x, None, index)
}

/// Puts kept tokens back to their places, and `mask_token` everywhere else (`forward_decoder` of the official
/// `models_convmae.py`).
///
/// From `[B, prefix + kept, D]` to `[B, prefix + L, D]`. `ids_restore`, `[B, L]`, says where in the shuffled order (kept tokens first) a
/// token of the grid is; the prefix tokens stay in front. `mask_token` is `[1, 1, D]`.
pub fn restore_tokens(x: Tensor, mask_token: &Param, ids_restore: &[u32], prefix: usize) -> Result<Tensor> {
    let (batch, tokens, channels) = x.dims3()?;
    check_token(mask_token, channels)?;
    if tokens < prefix {
        return Err(Error::Shape(format!("{tokens} tokens do not hold {prefix} prefix tokens")));
    }
    let grid = ids_restore.len() / batch.max(1);
    check_ids(ids_restore, batch, grid)?;
    let index = index(batch, prefix + grid, |image, place| {
        let token =
            if place < prefix { place } else { prefix + ids_restore[image * grid + place - prefix] as usize };
        if token < tokens { image * tokens + token } else { batch * tokens }
    });
    take_rows(x, Some(mask_token), index)
}

/// Puts a learned token `[1, 1, C]` (cls) in front of the tokens of each image: `[B, N, C]` to `[B, 1 + N, C]`.
pub fn prepend_token(x: Tensor, token: &Param) -> Result<Tensor> {
    let (batch, tokens, channels) = x.dims3()?;
    check_token(token, channels)?;
    let index = index(batch, 1 + tokens, |image, place| match place {
        0 => batch * tokens,
        _ => image * tokens + place - 1,
    });
    take_rows(x, Some(token), index)
}

/// The tokens without the first `prefix` of each image.
pub fn drop_prefix(x: Tensor, prefix: usize) -> Result<Tensor> {
    let (batch, tokens, _) = x.dims3()?;
    if prefix == 0 {
        return Ok(x);
    }
    let Some(kept @ 1..) = tokens.checked_sub(prefix) else {
        return Err(Error::Shape(format!("{tokens} tokens hold nothing behind {prefix} prefix tokens")));
    };
    take_rows(x, None, index(batch, kept, |image, place| image * tokens + prefix + place))
}

/// Adds to each token of `x`, `[B, prefix + N, C]`, the row of its position in `table`.
///
/// `table` is `[1, L, C]` for the `L` patches of the grid, or `[1, prefix + L, C]` with rows of the prefix tokens in front, which take
/// none otherwise. `ids`, `[B, N]`, are the patches of the tokens; without them the tokens are the whole grid in order. The
/// table may be trained.
pub fn add_positions(
    x: Tensor,
    table: &Param,
    grid: usize,
    ids: Option<&[u32]>,
    prefix: usize,
) -> Result<Tensor> {
    let (batch, tokens, channels) = x.dims3()?;
    let rows = match *table.shape() {
        [1, rows, width] if width == channels && (rows == grid || rows == prefix + grid) => rows,
        _ => {
            return Err(Error::Shape(format!(
                "{}: positions of a grid of {grid} patches are [1, {grid} or {}, {channels}], not {:?}",
                table.name(),
                prefix + grid,
                table.shape()
            )));
        }
    };
    let Some(patches) = tokens.checked_sub(prefix).filter(|&n| ids.is_some() || n == grid) else {
        return Err(Error::Shape(format!(
            "{tokens} tokens are not {prefix} and the {grid} patches of the grid"
        )));
    };
    if let Some(ids) = ids {
        check_ids(ids, batch, grid)?;
        if ids.len() != batch * patches {
            return Err(Error::Shape(format!("{} ids do not name {batch} x {patches} tokens", ids.len())));
        }
    }
    super::check_allocated(table)?;
    // Past the table where a token takes no row.
    let index = index(batch, tokens, |image, place| match place.checked_sub(prefix) {
        None if rows == grid => rows,
        None => place,
        Some(patch) => rows - grid + ids.map_or(patch, |ids| ids[image * patches + patch] as usize),
    });
    add_rows(x, table, index)
}

/// A flat index for `per_image` places of each image.
fn index(batch: usize, per_image: usize, row: impl Fn(usize, usize) -> usize) -> Vec<u32> {
    (0..batch * per_image).map(|place| row(place / per_image, place % per_image) as u32).collect()
}

fn check_ids(ids: &[u32], batch: usize, tokens: usize) -> Result<()> {
    if ids.is_empty() || batch == 0 || !ids.len().is_multiple_of(batch) {
        return Err(Error::Shape(format!("{} ids do not make rows for {batch} images", ids.len())));
    }
    match ids.iter().find(|&&id| id as usize >= tokens) {
        Some(id) => Err(Error::Value(format!("there is no token {id} among {tokens}"))),
        None => Ok(()),
    }
}

fn check_token(token: &Param, channels: usize) -> Result<()> {
    if token.shape() == [1, 1, channels] {
        return super::check_allocated(token);
    }
    Err(Error::Shape(format!(
        "{}: a token of {channels} channels is [1, 1, {channels}], not {:?}",
        token.name(),
        token.shape()
    )))
}

#[cfg(not(feature = "cuda"))]
mod kernel {

    use crate::Param;
    use crate::kernels::Buffer;
    use crate::kernels::tokens::{self, Takers};
    use crate::ops::operation;
    use crate::tensor::{Result, Tensor};

    /// Rows of `x` by a flat index, `[B, index.len() / B, C]`; one past its last row is `extra`.
    pub fn take_rows(x: Tensor, extra: Option<&Param>, index: Vec<u32>) -> Result<Tensor> {
        let (batch, tokens, channels) = x.dims3()?;
        let shape = (batch, index.len() / batch, channels);
        let extra = extra.cloned();
        operation(vec![x], shape, move |inputs, record| {
            let row = extra.as_ref().map(|extra| extra.values().to_vec()).unwrap_or_default();
            let output = tokens::gather_rows(&inputs[0], &row, channels, &index);
            let backward = move |grad: Buffer| {
                let rows = batch * tokens;
                let takers = Takers::new(&index, rows + 1);
                if let Some(extra) = extra {
                    extra.accumulate_grad(|sum, mode| {
                        mode.write(sum, &tokens::sum_rows(&grad, channels, takers.of(rows)));
                    });
                }
                let mut grad_input = Buffer::zeros(rows * channels);
                takers.add_grad(&grad, channels, &mut grad_input);
                vec![grad_input]
            };
            Ok((output, record.then(|| Box::new(backward) as _)))
        })
    }

    /// `x` plus rows of the table by a flat index; one past its last row is none.
    pub fn add_rows(x: Tensor, table: &Param, index: Vec<u32>) -> Result<Tensor> {
        let (shape, (_, _, channels)) = (x.shape(), x.dims3()?);
        let table = table.clone();
        operation(vec![x], shape, move |mut inputs, record| {
            let mut output = inputs.swap_remove(0);
            tokens::add_rows(&mut output, &table.values(), channels, &index);
            let backward = move |grad: Buffer| {
                let rows = table.numel() / channels;
                table.accumulate_grad(|sum, mode| {
                    mode.prepare(sum);
                    Takers::new(&index, rows).add_grad(&grad, channels, sum);
                });
                vec![grad]
            };
            Ok((output, record.then(|| Box::new(backward) as _)))
        })
    }
}

#[cfg(any(test, feature = "cuda"))]
#[allow(clippy::needless_pass_by_value)] // The signatures are those of the kernels.
mod composed {
    use dfdx::tensor_ops::{ReshapeTo as _, TryAdd as _};

    use crate::Param;
    use crate::ops::rows::{T2, append_row, append_zeros, gather};
    use crate::tensor::{Result, Tensor};

    pub fn take_rows(x: Tensor, extra: Option<&Param>, index: Vec<u32>) -> Result<Tensor> {
        let (batch, tokens, channels) = x.dims3()?;
        let tape = x.tape();
        let mut rows = x.typed((batch * tokens, channels))?;
        if let Some(extra) = extra {
            rows = append_row(rows, extra.tensor(&tape)?)?;
        }
        Tensor::from_typed(gather(rows, &index)?)?.reshape((batch, index.len() / batch, channels))
    }

    pub fn add_rows(x: Tensor, table: &Param, index: Vec<u32>) -> Result<Tensor> {
        let (batch, tokens, channels) = x.dims3()?;
        let tape = x.tape();
        let rows: T2 = table.tensor(&tape)?.try_reshape_like(&(table.numel() / channels, channels))?;
        let rows = append_zeros(rows)?;
        let x = x.typed((batch * tokens, channels))?;
        Tensor::from_typed(x.try_add(gather(rows, &index)?)?)?.reshape((batch, tokens, channels))
    }
}

#[cfg(all(test, not(feature = "cuda")))]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;
    use crate::Tape;
    use crate::tensor::Tensor;
    use crate::testing::{noise, noise_param, on_threads, run};

    fn tokens(values: &[f32], shape: (usize, usize, usize)) -> Tensor {
        Tensor::from_vec(values.to_vec(), shape, &Tape::none()).unwrap()
    }

    /// For each image the tokens of the grid in random order, and where each of them is in it.
    fn shuffle(batch: usize, grid: usize) -> (Vec<Vec<u32>>, Vec<u32>) {
        let mut restore = vec![0; batch * grid];
        let shuffled: Vec<Vec<u32>> = (0..batch)
            .map(|image| {
                let mut order: Vec<(f32, u32)> = noise(image as u64 + 9, grid).into_iter().zip(0..).collect();
                order.sort_by(|a, b| a.0.total_cmp(&b.0));
                order.into_iter().map(|(_, id)| id).collect()
            })
            .collect();
        for (image, order) in shuffled.iter().enumerate() {
            for (place, &id) in order.iter().enumerate() {
                restore[image * grid + id as usize] = place as u32;
            }
        }
        (shuffled, restore)
    }

    #[test]
    fn every_operation_agrees_with_its_composition() {
        let (batch, count, channels) = (2, 5, 3);
        let x = noise(1, batch * count * channels);
        let extra = noise_param(2, &[1, 1, channels]);
        let index = vec![3, 10, 0, 0, 9, 10, 10, 5];
        let shape = (batch, count, channels);
        let own = run(&x, shape, &[&extra], |x| kernel::take_rows(x, Some(&extra), index.clone()));
        let other = run(&x, shape, &[&extra], |x| composed::take_rows(x, Some(&extra), index.clone()));
        own.assert_close(&other, 1e-6);
        let table = noise_param(3, &[1, 7, channels]);
        let index = vec![6, 7, 0, 0, 3, 2, 7, 1, 0, 5];
        let own = run(&x, shape, &[&table], |x| kernel::add_rows(x, &table, index.clone()));
        let other = run(&x, shape, &[&table], |x| composed::add_rows(x, &table, index.clone()));
        own.assert_close(&other, 1e-6);
    }

    proptest! {
        #[test]
        fn restoring_kept_tokens_puts_them_back_and_mask_tokens_elsewhere(
            batch in 1usize..3, grid in 1usize..9, share in 0.0f32..1.0, prefix in 0usize..3,
        ) {
            let kept = (grid as f32 * share) as usize + 1;
            let (shuffled, restore) = shuffle(batch, grid);
            let ids: Vec<u32> = shuffled.iter().flat_map(|order| &order[..kept]).copied().collect();
            let x = noise(1, batch * (prefix + grid) * 2);
            let all = tokens(&x, (batch, prefix + grid, 2));
            let taken: Vec<u32> = (0..batch)
                .flat_map(|image| {
                    let ids = ids[image * kept..][..kept].iter().map(|id| prefix as u32 + id);
                    (0..prefix as u32).chain(ids).collect::<Vec<_>>()
                })
                .collect();
            let mask_token = noise_param(2, &[1, 1, 2]);
            let encoded = gather_tokens(all, &taken).unwrap();
            let restored = restore_tokens(encoded, &mask_token, &restore, prefix).unwrap().to_vec().unwrap();
            for (place, token) in restored.chunks_exact(2).enumerate() {
                let (image, place) = (place / (prefix + grid), place % (prefix + grid));
                let is_kept = place < prefix || (restore[image * grid + place - prefix] as usize) < kept;
                let own = &x[(image * (prefix + grid) + place) * 2..][..2];
                prop_assert_eq!(token, if is_kept { own } else { &*mask_token.values() });
            }
        }
    }

    #[test]
    fn a_prepended_token_comes_first_and_is_dropped_again() {
        let x = noise(1, 12);
        let token = noise_param(2, &[1, 1, 2]);
        let with = prepend_token(tokens(&x, (2, 3, 2)), &token).unwrap();
        let values = with.to_vec().unwrap();
        assert_eq!([&values[..2], &values[8..10]], [&*token.values(); 2]);
        assert_eq!(drop_prefix(with, 1).unwrap().to_vec().unwrap(), x);
    }

    #[test]
    fn the_gradient_of_a_token_taken_twice_is_a_sum() {
        let outcome = run(&[1.0, 2.0], (1, 2, 1), &[], |x| gather_tokens(x, &[1, 1, 0]));
        let weights = crate::testing::loss_weights(3);
        assert_eq!(outcome.values, [2.0, 2.0, 1.0]);
        assert_eq!(outcome.grads[0], [weights[2], weights[0] + weights[1]]);
    }

    #[test]
    fn positions_belong_to_patches_and_to_prefix_tokens_with_rows_of_their_own() {
        let add = |rows: usize, ids: Option<&[u32]>, tokens_of_image: usize, prefix: usize| {
            let table = noise_param(1, &[1, rows, 1]);
            let values: Vec<f32> = (1..=rows).map(|row| row as f32).collect();
            table.set(&values).unwrap();
            let x = tokens(&vec![0.0; 2 * tokens_of_image], (2, tokens_of_image, 1));
            add_positions(x, &table, 3, ids, prefix).unwrap().to_vec().unwrap()
        };
        assert_eq!(add(3, None, 3, 0), [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]);
        assert_eq!(add(3, None, 4, 1), [0.0, 1.0, 2.0, 3.0, 0.0, 1.0, 2.0, 3.0]);
        assert_eq!(add(4, None, 4, 1), [1.0, 2.0, 3.0, 4.0, 1.0, 2.0, 3.0, 4.0]);
        assert_eq!(add(3, Some(&[2, 0]), 1, 0), [3.0, 1.0]);
        assert_eq!(add(4, Some(&[2, 0]), 2, 1), [1.0, 4.0, 1.0, 2.0]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let x = || tokens(&[0.0; 12], (2, 3, 2));
        let token = noise_param(1, &[1, 1, 2]);
        assert!(gather_tokens(x(), &[0, 3]).is_err());
        assert!(gather_tokens(x(), &[0, 1, 2]).is_err());
        assert!(gather_tokens(x(), &[]).is_err());
        assert!(prepend_token(x(), &noise_param(1, &[1, 1, 3])).is_err());
        assert!(restore_tokens(x(), &token, &[0, 1, 2, 3, 0, 1, 2, 4], 0).is_err());
        assert!(restore_tokens(x(), &token, &[0, 1], 4).is_err());
        assert!(drop_prefix(x(), 3).is_err());
        let table = noise_param(1, &[1, 4, 2]);
        assert!(add_positions(x(), &table, 4, None, 0).is_err());
        assert!(add_positions(x(), &table, 5, Some(&[0; 6]), 0).is_err());
        assert!(add_positions(x(), &table, 4, Some(&[0; 4]), 0).is_err());
        assert!(add_positions(x(), &table, 4, Some(&[4; 6]), 0).is_err());
        assert!(add_positions(x(), &table, 4, Some(&[3; 6]), 0).is_ok());
    }

    #[test]
    fn the_result_does_not_depend_on_the_number_of_threads() {
        let outcome = |threads| {
            on_threads(threads, || {
                let (_, restore) = shuffle(8, 100);
                let token = noise_param(2, &[1, 1, 16]);
                run(&noise(1, 8 * 25 * 16), (8, 25, 16), &[&token], |x| {
                    restore_tokens(x, &token, &restore, 0)
                })
            })
        };
        assert_eq!(outcome(1), outcome(3));
    }
}
