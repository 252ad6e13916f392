//! Maps beside each other.

use crate::tensor::{Error, Result, Tensor};

#[cfg(feature = "cuda")]
use composed as implementation;
#[cfg(not(feature = "cuda"))]
use kernel as implementation;

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
    implementation::concat_channels(maps, (batch, height, width, channels.iter().sum()), channels)
}

#[cfg(not(feature = "cuda"))]
mod kernel {
    use rayon::prelude::*;

    use crate::kernels::Buffer;
    use crate::ops::operation;
    use crate::tensor::{Result, Tensor};

    pub fn concat_channels(
        maps: Vec<Tensor>,
        shape: (usize, usize, usize, usize),
        channels: Vec<usize>,
    ) -> Result<Tensor> {
        let inputs = maps.into_iter().collect();
        operation(inputs, shape, move |inputs, record| {
            let mut output = Buffer::unspecified(inputs.iter().map(|input| input.len()).sum());
            output.par_chunks_mut(shape.3).enumerate().for_each(|(position, mut output)| {
                for (input, &channels) in inputs.iter().zip(&channels) {
                    let (own, rest) = output.split_at_mut(channels);
                    own.copy_from_slice(&input[position * channels..][..channels]);
                    output = rest;
                }
            });
            let backward = move |grad: Buffer| {
                let mut start = 0;
                let part = |&channels: &usize| {
                    let mut own = Buffer::unspecified(grad.len() / shape.3 * channels);
                    let rows = own.par_chunks_mut(channels).zip(grad.par_chunks(shape.3));
                    rows.for_each(|(own, grad)| own.copy_from_slice(&grad[start..][..channels]));
                    start += channels;
                    own
                };
                channels.iter().map(part).collect()
            };
            Ok((output, record.then(|| Box::new(backward) as _)))
        })
    }
}

#[cfg(any(test, feature = "cuda"))]
#[allow(clippy::needless_pass_by_value)] // The signatures are those of the kernels.
mod composed {
    use dfdx::shapes::{Axes2, HasShape as _};
    use dfdx::tensor_ops::{PermuteTo as _, TryAdd as _};

    use crate::ops::rows::{T2, append_zeros, dense, gather};
    use crate::tensor::{Result, Tensor};

    /// Channels are rows of the transposed maps: each map becomes one with zeros in place of the others, and these are added.
    pub fn concat_channels(
        maps: Vec<Tensor>,
        shape: (usize, usize, usize, usize),
        channels: Vec<usize>,
    ) -> Result<Tensor> {
        let positions = shape.0 * shape.1 * shape.2;
        let (mut sum, mut start): (Option<T2>, usize) = (None, 0);
        for (map, channels) in maps.into_iter().zip(channels) {
            let rows = map.typed((positions, channels))?;
            let rows = append_zeros(dense(rows.try_permute::<_, Axes2<1, 0>>()?)?)?;
            let own = start..start + channels;
            let row = |channel: usize| if own.contains(&channel) { channel - own.start } else { channels };
            let index: Vec<u32> = (0..shape.3).map(|channel| row(channel) as u32).collect();
            let part = gather(rows, &index)?;
            sum = Some(match sum {
                Some(sum) => sum.try_add(part)?,
                None => part,
            });
            start += channels;
        }
        let sum = sum.ok_or_else(|| crate::Error::Shape("there are no maps".to_owned()))?;
        debug_assert_eq!(*sum.shape(), (shape.3, positions));
        Tensor::from_typed(dense(sum.try_permute::<_, Axes2<1, 0>>()?)?)?.reshape(shape)
    }
}

#[cfg(all(test, not(feature = "cuda")))]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::Tape;
    use crate::ops::relu;
    use crate::tensor::Tensor;
    use crate::testing::{noise, run};

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
        type Concat = fn(Vec<Tensor>, (usize, usize, usize, usize), Vec<usize>) -> Result<Tensor>;
        let outcome = |concat: Concat| {
            run(&noise(1, 2 * 3 * 2 * 4), (2, 3, 2, 4), &[], |x| {
                concat(vec![x.clone(), relu(x.clone())?, x], (2, 3, 2, 12), vec![4; 3])
            })
        };
        outcome(kernel::concat_channels).assert_close(&outcome(composed::concat_channels), 1e-6);
    }

    #[test]
    fn maps_of_other_sizes_are_refused() {
        let map = |height| Tensor::from_vec(noise(1, height * 2), (1, height, 1, 2), &Tape::none()).unwrap();
        assert!(matches!(concat_channels(vec![map(2), map(3)]), Err(Error::Shape(_))));
        assert!(matches!(concat_channels(Vec::new()), Err(Error::Shape(_))));
    }
}
