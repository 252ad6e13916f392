//! Tokens as maps, and back.

use super::gather_tokens;
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// The positions of all patches of a grid of rows and columns, `[B, rows * cols * cell * cell, C]`, in the order of the image:
/// `[B, rows * cell, cols * cell, C]`.
///
/// # Errors
/// If there are not as many tokens.
pub fn to_maps(x: Tensor, (rows, cols): (usize, usize), cell: usize) -> Result<Tensor> {
    let (batch, tokens, channels) = x.dims3()?;
    let (height, width) = (rows * cell, cols * cell);
    if height * width != tokens {
        return Err(Error::Shape(format!(
            "{tokens} tokens are not {rows} x {cols} patches of {cell} x {cell}"
        )));
    }
    let x = if cell == 1 { x } else { gather_tokens(x, &order(cols, cell, tokens).repeat(batch))? };
    x.reshape((batch, height, width, channels))
}

/// The token of every position of an image.
fn order(cols: usize, cell: usize, tokens: usize) -> Vec<u32> {
    let width = cols * cell;
    let token = |place: usize| {
        let (y, x) = (place / width, place % width);
        let patch = y / cell * cols + x / cell;
        ((patch * cell + y % cell) * cell + x % cell) as u32
    };
    (0..tokens).map(token).collect()
}

/// Maps `[B, H, W, C]` as tokens, `[B, H * W, C]`.
pub fn to_tokens(x: Tensor) -> Result<Tensor> {
    let (batch, height, width, channels) = x.dims4()?;
    x.reshape((batch, height * width, channels))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tape;
    use crate::tensor::Tensor;
    use crate::testing::{loss_weights, run};

    #[test]
    fn maps_are_in_the_order_of_the_image() {
        // 1 x 2 patches of 2 x 2 positions, two channels.
        let x: Vec<f32> = (0..16).map(|i| i as f32).collect();
        let outcome = run(&x, (1, 8, 2), &[], |x| to_maps(x, (1, 2), 2));
        let order = [0, 1, 4, 5, 2, 3, 6, 7];
        let expected: Vec<f32> = order.iter().flat_map(|&at| [x[2 * at], x[2 * at + 1]]).collect();
        assert_eq!(outcome.values, expected);
        let weights = loss_weights(16);
        for (place, at) in order.into_iter().enumerate() {
            assert_eq!(outcome.grads[0][2 * at..][..2], weights[2 * place..][..2]);
        }
    }

    #[test]
    fn single_positions_stay_where_they_are() {
        let x: Vec<f32> = (0..12).map(|i| i as f32).collect();
        let maps =
            to_maps(Tensor::from_vec(x.clone(), (1, 6, 2), &Tape::none()).unwrap(), (2, 3), 1).unwrap();
        assert_eq!(maps.dims(), [1, 2, 3, 2]);
        assert_eq!(to_tokens(maps).unwrap().to_vec().unwrap(), x);
    }

    #[test]
    fn another_number_of_tokens_is_refused() {
        let x = Tensor::from_vec(vec![0.0; 16], (1, 8, 2), &Tape::none()).unwrap();
        assert!(matches!(to_maps(x, (1, 2), 1), Err(Error::Shape(_))));
    }
}
