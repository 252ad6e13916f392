//! Concatenation of channels, composed of dfdx's operations.

use dfdx::shapes::Axes2;
use dfdx::tensor_ops::{PermuteTo as _, TryAdd as _};

use super::rows::{T2, append_zeros, dense, gather};
use crate::error::Result;
use crate::tensor::Tensor;

/// Channels are rows of the transposed maps: each map becomes one with zeros in place of the others, and these are added.
pub fn concat_channels(maps: Vec<Tensor>) -> Result<Tensor> {
    let channels = maps.iter().map(|map| Ok(map.dims4()?.3)).collect::<Result<Vec<_>>>()?;
    let shape = maps[0].shape().with_last(channels.iter().sum());
    let positions = shape.numel() / shape.channels();
    let (mut sum, mut start): (Option<T2>, usize) = (None, 0);
    for (map, channels) in maps.into_iter().zip(channels) {
        let rows = map.typed((positions, channels))?;
        let rows = append_zeros(dense(rows.try_permute::<_, Axes2<1, 0>>()?)?)?;
        let own = start..start + channels;
        let row = |channel: usize| if own.contains(&channel) { channel - own.start } else { channels };
        let index: Vec<u32> = (0..shape.channels()).map(|channel| row(channel) as u32).collect();
        let part = gather(rows, &index)?;
        sum = Some(match sum {
            Some(sum) => sum.try_add(part)?,
            None => part,
        });
        start += channels;
    }
    let sum = sum.ok_or_else(|| crate::Error::Shape("there are no maps".to_owned()))?;
    Tensor::from_typed(dense(sum.try_permute::<_, Axes2<1, 0>>()?)?)?.reshape(shape)
}
