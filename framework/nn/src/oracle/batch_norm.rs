//! Batch normalisation, composed of dfdx's operations.

use dfdx::shapes::Axis;
use dfdx::tensor::Merge as _;
use dfdx::tensor_ops::{
    BroadcastTo as _, MeanTo as _, TryAdd as _, TryDiv as _, TryMul as _, TrySub as _,
};

use super::BatchNormParams;
use crate::Tape;
use crate::backend::batch_norm::Moments;
use super::rows::{T1, constant};
use crate::tensor::{Result, Tensor};

pub fn batch_norm(x: Tensor, params: &BatchNormParams, training: bool, tape: &Tape) -> Result<Tensor> {
    let shape = x.shape();
    let channels = params.running_mean.numel();
    let rows = (shape.numel() / channels, channels);
    let tape = x.tape().merge(tape.clone());
    let x = x.typed(rows)?;
    let (mean, var): (T1, T1) = if training {
        let mean: T1 = x.clone().try_mean::<_, Axis<0>>()?;
        let centered = x.clone().try_sub(mean.clone().try_broadcast_like::<_, Axis<0>>(&rows)?)?;
        let var: T1 = centered.try_square()?.try_mean::<_, Axis<0>>()?;
        let [mean_values, var_values] =
            [&mean, &var].map(|moment: &T1| Tensor::from_typed(moment.clone())?.to_vec());
        params.update_running(&Moments { mean: mean_values?, var: var_values? }, rows.0)?;
        (mean, var)
    } else {
        let running = params.running()?;
        (constant(running.mean, (channels,))?, constant(running.var, (channels,))?)
    };
    let std = var.try_add(params.eps)?.try_sqrt()?;
    let mut y = x
        .try_sub(mean.try_broadcast_like::<_, Axis<0>>(&rows)?)?
        .try_div(std.try_broadcast_like::<_, Axis<0>>(&rows)?)?;
    if let Some((weight, bias)) = &params.affine {
        y = y.try_mul(weight.tensor(&tape)?.try_broadcast_like::<_, Axis<0>>(&rows)?)?;
        y = y.try_add(bias.tensor(&tape)?.try_broadcast_like::<_, Axis<0>>(&rows)?)?;
    }
    Tensor::from_typed(y)?.reshape(shape)
}
