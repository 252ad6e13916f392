//! Concatenation of channels, composed of dfdx's operations.

use dfdx::shapes::{Axes2, HasShape as _};
use dfdx::tensor_ops::{PermuteTo as _, TryAdd as _};

use super::rows::{T2, append_zeros, dense, gather};
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
