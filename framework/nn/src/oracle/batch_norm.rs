//! Batch normalisation, composed of dfdx's operations.

use dfdx::shapes::Axis;
use dfdx::tensor_ops::{BroadcastTo as _, MeanTo as _, TryAdd as _, TryDiv as _, TryMul as _, TrySub as _};

use super::rows::{T1, constant};
use crate::Param;
use crate::error::Result;
use crate::layers::BatchNorm;
use crate::tensor::Tensor;

pub fn batch_norm(x: Tensor, norm: &BatchNorm, training: bool) -> Result<Tensor> {
    let shape = x.shape();
    let channels = norm.running_mean.numel();
    let rows = (shape.numel() / channels, channels);
    let tape = x.tape();
    let x = x.typed(rows)?;
    let (mean, var): (T1, T1) = if training {
        let mean: T1 = x.clone().try_mean::<_, Axis<0>>()?;
        let centered = x.clone().try_sub(mean.clone().try_broadcast_like::<_, Axis<0>>(&rows)?)?;
        let var: T1 = centered.try_square()?.try_mean::<_, Axis<0>>()?;
        let [mean_values, var_values] =
            [&mean, &var].map(|moment: &T1| Tensor::from_typed(moment.clone())?.to_vec());
        let unbiased = rows.0 as f32 / (rows.0 - 1) as f32;
        let moved = |running: &Param, batch: Vec<f32>, factor: f32| {
            let old = running.to_vec()?;
            let new = old.iter().zip(batch).map(|(old, new)| old + norm.momentum * (factor * new - old));
            running.set(&new.collect::<Vec<_>>())
        };
        moved(&norm.running_mean, mean_values?, 1.0)?;
        moved(&norm.running_var, var_values?, unbiased)?;
        (mean, var)
    } else {
        let running = |param: &Param| constant(param.to_vec()?, (channels,));
        (running(&norm.running_mean)?, running(&norm.running_var)?)
    };
    let std = var.try_add(norm.eps)?.try_sqrt()?;
    let mut y = x
        .try_sub(mean.try_broadcast_like::<_, Axis<0>>(&rows)?)?
        .try_div(std.try_broadcast_like::<_, Axis<0>>(&rows)?)?;
    if let Some([weight, bias]) = &norm.affine {
        y = y.try_mul(weight.tensor(&tape)?.try_broadcast_like::<_, Axis<0>>(&rows)?)?;
        y = y.try_add(bias.tensor(&tape)?.try_broadcast_like::<_, Axis<0>>(&rows)?)?;
    }
    Tensor::from_typed(y)?.reshape(shape)
}
