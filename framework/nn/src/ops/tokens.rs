//! Tokens: taken, put back, prepended, and given their positions.

use super::layer::{Layer, LayerBackward, Pass, apply_constant};
use crate::backend::tokens::{self, InverseIndex};
use crate::backend::{Buffer, Output, Values, unspecified};
use crate::error::{Error, Result};
use crate::tensor::Tensor;
use crate::{Param, Shape};

/// The tokens `ids`, `[B, M]`, of `x`, `[B, N, C]`: `[B, M, C]`. A token may be taken many times, or never.
///
/// # Errors
/// If there are no ids, or there is no token of one of them; or if the device fails.
pub fn gather_tokens(x: Tensor, ids: &[u32]) -> Result<Tensor> {
    apply_constant(GatherTokens { ids: ids.to_vec() }, x)
}

/// The tokens without the first `prefix` of each image.
///
/// # Errors
/// If no token is left, or the device fails.
pub fn drop_prefix(x: Tensor, prefix: usize) -> Result<Tensor> {
    if prefix == 0 { Ok(x) } else { apply_constant(DropPrefix { prefix }, x) }
}

/// Takes tokens by index, `[B, N, C]` to `[B, M, C]`: [`gather_tokens`] as a layer.
#[derive(Debug, Clone)]
pub struct GatherTokens {
    /// `[B, M]`.
    pub ids: Vec<u32>,
}

/// Takes the tokens behind the first ones of each image: [`drop_prefix`] as a layer.
#[derive(Debug, Clone, Copy)]
pub struct DropPrefix {
    /// How many are dropped.
    pub prefix: usize,
}

/// Puts kept tokens back to their places, and a learned token everywhere else (`forward_decoder` of the official
/// `models_convmae.py`).
///
/// From `[B, prefix + kept, D]` to `[B, prefix + L, D]`; the prefix tokens stay in front.
#[derive(Debug, Clone)]
pub struct RestoreTokens {
    /// `[1, 1, D]`.
    pub mask_token: Param,
    /// `[B, L]`: where in the shuffled order (kept tokens first) a token of the grid is.
    pub ids_restore: Vec<u32>,
    /// Tokens in front of those of the grid.
    pub prefix: usize,
}

/// Puts a learned token (cls) in front of the tokens of each image: `[B, N, C]` to `[B, 1 + N, C]`.
#[derive(Debug, Clone)]
pub struct PrependToken {
    /// `[1, 1, C]`.
    pub token: Param,
}

/// Adds to each token, `[B, prefix + N, C]`, the row of its position in a table, which may be trained.
#[derive(Debug, Clone)]
pub struct AddPositions {
    /// `[1, L, C]` for the `L` patches of the grid, or `[1, prefix + L, C]` with rows of the prefix tokens in front, which take none
    /// otherwise.
    pub table: Param,
    /// `L`.
    pub grid: usize,
    /// The patches of the tokens, `[B, N]`; without them the tokens are the whole grid in order.
    pub ids: Option<Vec<u32>>,
    /// Tokens in front of those of the grid.
    pub prefix: usize,
}

impl Layer for GatherTokens {
    fn output_shape(&self, input: Shape) -> Result<Shape> {
        let (batch, tokens, channels) = input.dims3()?;
        check_ids(&self.ids, batch, tokens)?;
        Ok(Shape::from((batch, self.ids.len() / batch, channels)))
    }

    fn may_train(&self) -> bool {
        false
    }

    fn forward(self: Box<Self>, x: Buffer, shape: Shape, pass: Pass) -> Result<(Buffer, LayerBackward)> {
        let (batch, tokens, _) = shape.dims3()?;
        let per_image = self.ids.len() / batch;
        let id = |image, place| self.ids[image * per_image + place] as usize;
        let index = index(batch, per_image, |image, place| image * tokens + id(image, place));
        take_rows(&x, shape, None, index, pass)
    }
}

impl Layer for DropPrefix {
    fn output_shape(&self, input: Shape) -> Result<Shape> {
        let (batch, tokens, channels) = input.dims3()?;
        match tokens.checked_sub(self.prefix) {
            Some(rest @ 1..) => Ok(Shape::from((batch, rest, channels))),
            _ => Err(Error::Shape(format!(
                "{tokens} tokens hold nothing behind {} prefix tokens",
                self.prefix
            ))),
        }
    }

    fn may_train(&self) -> bool {
        false
    }

    fn forward(self: Box<Self>, x: Buffer, shape: Shape, pass: Pass) -> Result<(Buffer, LayerBackward)> {
        let ((batch, tokens, _), prefix) = (shape.dims3()?, self.prefix);
        if prefix == 0 {
            return Ok((x, Box::new(|grad| Ok(Some(grad)))));
        }
        let index = index(batch, tokens - prefix, |image, place| image * tokens + prefix + place);
        take_rows(&x, shape, None, index, pass)
    }
}

impl Layer for RestoreTokens {
    fn output_shape(&self, input: Shape) -> Result<Shape> {
        let Self { mask_token, ids_restore, prefix } = self;
        let (batch, tokens, channels) = input.dims3()?;
        check_token(mask_token, channels)?;
        if tokens < *prefix {
            return Err(Error::Shape(format!("{tokens} tokens do not hold {prefix} prefix tokens")));
        }
        let grid = ids_restore.len() / batch.max(1);
        check_ids(ids_restore, batch, grid)?;
        Ok(Shape::from((batch, prefix + grid, channels)))
    }

    fn may_train(&self) -> bool {
        self.mask_token.requires_grad()
    }

    fn forward(self: Box<Self>, x: Buffer, shape: Shape, pass: Pass) -> Result<(Buffer, LayerBackward)> {
        let Self { mask_token, ids_restore, prefix } = *self;
        let (batch, tokens, _) = shape.dims3()?;
        let grid = ids_restore.len() / batch;
        let index = index(batch, prefix + grid, |image, place| {
            let token = match place.checked_sub(prefix) {
                Some(patch) => prefix + ids_restore[image * grid + patch] as usize,
                None => place,
            };
            if token < tokens { image * tokens + token } else { batch * tokens }
        });
        take_rows(&x, shape, Some(mask_token), index, pass)
    }
}

impl Layer for PrependToken {
    fn output_shape(&self, input: Shape) -> Result<Shape> {
        let (batch, tokens, channels) = input.dims3()?;
        check_token(&self.token, channels)?;
        Ok(Shape::from((batch, 1 + tokens, channels)))
    }

    fn may_train(&self) -> bool {
        self.token.requires_grad()
    }

    fn forward(self: Box<Self>, x: Buffer, shape: Shape, pass: Pass) -> Result<(Buffer, LayerBackward)> {
        let (batch, tokens, _) = shape.dims3()?;
        let index = index(batch, 1 + tokens, |image, place| match place.checked_sub(1) {
            Some(token) => image * tokens + token,
            None => batch * tokens,
        });
        take_rows(&x, shape, Some(self.token), index, pass)
    }
}

impl Layer for AddPositions {
    fn output_shape(&self, input: Shape) -> Result<Shape> {
        let (batch, tokens, channels) = input.dims3()?;
        let Self { table, grid, ids, prefix } = self;
        if ![*grid, prefix + grid].iter().any(|&rows| table.shape() == [1, rows, channels]) {
            return Err(Error::Shape(format!(
                "{}: positions of a grid of {grid} patches are [1, {grid} or {}, {channels}], not {:?}",
                table.name(),
                prefix + grid,
                table.shape()
            )));
        }
        let Some(patches) = tokens.checked_sub(*prefix).filter(|n| ids.is_some() || n == grid) else {
            return Err(Error::Shape(format!(
                "{tokens} tokens are not {prefix} and the {grid} patches of the grid"
            )));
        };
        if let Some(ids) = ids {
            check_ids(ids, batch, *grid)?;
            if ids.len() != batch * patches {
                return Err(Error::Shape(format!(
                    "{} ids do not name {batch} x {patches} tokens",
                    ids.len()
                )));
            }
        }
        table.check_allocated()?;
        Ok(input)
    }

    fn may_train(&self) -> bool {
        self.table.requires_grad()
    }

    fn forward(self: Box<Self>, mut x: Buffer, shape: Shape, _: Pass) -> Result<(Buffer, LayerBackward)> {
        let Self { table, grid, ids, prefix } = *self;
        let (batch, tokens, channels) = shape.dims3()?;
        let (rows, patches) = (table.numel() / channels, tokens - prefix);
        // Past the table where a token takes no row.
        let index = index(batch, tokens, |image, place| match place.checked_sub(prefix) {
            None if rows == grid => rows,
            None => place,
            Some(patch) => {
                let id = ids.as_ref().map_or(patch, |ids| ids[image * patches + patch] as usize);
                rows - grid + id
            }
        });
        tokens::add_rows(&mut x, &table.values(), channels, &index)?;
        let backward = move |grad: Buffer| {
            table.accumulate_grad(|sum, mode| {
                tokens::scatter_rows(&grad, channels, &InverseIndex::new(&index, rows), sum, mode)
            })?;
            Ok(Some(grad))
        };
        Ok((x, Box::new(backward)))
    }
}

/// Rows of `x`, of the given shape, by a flat index; one past its last row is `extra`.
fn take_rows(
    x: &Values,
    shape: Shape,
    extra: Option<Param>,
    index: Vec<u32>,
    pass: Pass,
) -> Result<(Buffer, LayerBackward)> {
    let (batch, tokens, channels) = shape.dims3()?;
    let y = {
        let row = extra.as_ref().map(Param::values);
        tokens::gather_rows(x, row.as_deref(), channels, &index)?
    };
    let backward = move |grad: Buffer| {
        let rows = batch * tokens;
        let places = InverseIndex::new(&index, rows + 1);
        if let Some(extra) = extra.filter(Param::requires_grad) {
            extra.add_grad(tokens::scatter_row(&grad, channels, &places, rows)?)?;
        }
        if !pass.wants_input {
            return Ok(None);
        }
        let mut grad_x = unspecified(rows * channels)?;
        tokens::scatter_rows(&grad, channels, &places, &mut grad_x, Output::Replace)?;
        Ok(Some(grad_x))
    };
    Ok((y, Box::new(backward)))
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
        return token.check_allocated();
    }
    Err(Error::Shape(format!(
        "{}: a token of {channels} channels is [1, 1, {channels}], not {:?}",
        token.name(),
        token.shape()
    )))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{noise, noise_param, on_threads, run};
    use crate::{Tape, oracle};

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

    fn restore_tokens(x: Tensor, mask_token: &Param, ids_restore: &[u32], prefix: usize) -> Result<Tensor> {
        let ids_restore = ids_restore.to_vec();
        apply_constant(RestoreTokens { mask_token: mask_token.clone(), ids_restore, prefix }, x)
    }

    fn prepend_token(x: Tensor, token: &Param) -> Result<Tensor> {
        apply_constant(PrependToken { token: token.clone() }, x)
    }

    fn add_positions(
        x: Tensor,
        table: &Param,
        grid: usize,
        ids: Option<&[u32]>,
        prefix: usize,
    ) -> Result<Tensor> {
        let ids = ids.map(<[u32]>::to_vec);
        apply_constant(AddPositions { table: table.clone(), grid, ids, prefix }, x)
    }

    #[test]
    fn every_operation_agrees_with_its_composition() {
        let (x, shape) = (noise(1, 2 * 5 * 3), (2, 5, 3));
        let token = noise_param(2, &[1, 1, 3]);
        let own = run(&x, shape, &[], |x| gather_tokens(x, &[3, 0, 0, 4, 4, 1]));
        let other = run(&x, shape, &[], |x| oracle::take_rows(x, None, &[3, 0, 0, 9, 9, 6]));
        own.assert_close(&other, 1e-6);
        // One prefix token and four kept of a grid of five.
        let own =
            run(&x, shape, &[&token], |x| restore_tokens(x, &token, &[4, 2, 0, 1, 3, 0, 1, 2, 3, 4], 1));
        let index = [0, 10, 3, 1, 2, 4, 5, 6, 7, 8, 9, 10];
        let other = run(&x, shape, &[&token], |x| oracle::take_rows(x, Some(&token), &index));
        own.assert_close(&other, 1e-6);
        let table = noise_param(3, &[1, 7, 3]);
        // The prefix token takes no row.
        let ids = [6, 0, 0, 3, 2, 1, 0, 5];
        let own = run(&x, shape, &[&table], |x| add_positions(x, &table, 7, Some(&ids), 1));
        let index = [7, 6, 0, 0, 3, 7, 2, 1, 0, 5];
        let other = run(&x, shape, &[&table], |x| oracle::add_rows(x, &table, &index));
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
                prop_assert_eq!(token, if is_kept { own } else { &*mask_token.to_vec().unwrap() });
            }
        }
    }

    #[test]
    fn a_prepended_token_comes_first_and_is_dropped_again() {
        let x = noise(1, 12);
        let token = noise_param(2, &[1, 1, 2]);
        let with = prepend_token(tokens(&x, (2, 3, 2)), &token).unwrap();
        let values = with.to_vec().unwrap();
        assert_eq!([&values[..2], &values[8..10]], [&*token.to_vec().unwrap(); 2]);
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
