//! Concatenation of channels.

use super::operation::operation;
use crate::backend::{Buffer, concat};
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// Maps `[B, H, W, C_i]` of one size as one, `[B, H, W, sum of C_i]`.
///
/// # Errors
/// If there is none, or two differ in more than their channels.
pub fn concat_channels(maps: Vec<Tensor>) -> Result<Tensor> {
    let shapes: Vec<_> = maps.iter().map(Tensor::dims4).collect::<Result<_>>()?;
    let Some(&(batch, height, width, _)) = shapes.first() else {
        return Err(Error::Shape("there are no maps to put beside each other".to_owned()));
    };
    if shapes.iter().any(|&(b, h, w, c)| (b, h, w) != (batch, height, width) || c == 0) {
        return Err(Error::Shape(format!("maps {shapes:?} cannot stand beside each other")));
    }
    let channels: Vec<usize> = shapes.iter().map(|shape| shape.3).collect();
    operation(maps, (batch, height, width, channels.iter().sum()), move |inputs, records| {
        let output = concat::forward(&inputs, &channels)?;
        let backward =
            move |grad: Buffer| Ok(concat::backward(&grad, &channels)?.into_iter().map(Some).collect());
        Ok((output, records.then(|| Box::new(backward) as _)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::relu;
    use crate::testing::{noise, run};
    use crate::{Tape, oracle};

    #[test]
    fn channels_stand_beside_each_other() {
        let map = |values: &[f32], channels| {
            Tensor::from_vec(values.to_vec(), (1, 2, 1, channels), &Tape::none()).unwrap()
        };
        let joined = concat_channels(vec![map(&[1.0, 2.0], 1), map(&[3.0, 4.0, 5.0, 6.0], 2)]).unwrap();
        assert_eq!(joined.to_vec().unwrap(), [1.0, 3.0, 4.0, 2.0, 5.0, 6.0]);
    }

    #[test]
    fn equals_the_composed_operation_also_where_a_map_is_used_twice() {
        let outcome = |concat: fn(Vec<Tensor>) -> Result<Tensor>| {
            run(&noise(1, 2 * 3 * 2 * 4), (2, 3, 2, 4), &[], |x| concat(vec![x.clone(), relu(x.clone())?, x]))
        };
        outcome(concat_channels).assert_close(&outcome(oracle::concat_channels), 1e-6);
    }

    #[test]
    fn maps_of_other_sizes_are_refused() {
        let map = |height| Tensor::from_vec(noise(1, height * 2), (1, height, 1, 2), &Tape::none()).unwrap();
        assert!(matches!(concat_channels(vec![map(2), map(3)]), Err(Error::Shape(_))));
        assert!(matches!(concat_channels(Vec::new()), Err(Error::Shape(_))));
    }
}
