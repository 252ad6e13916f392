//! Running statistics that enter their parameters later: in the order of the batches of a step, whichever process normalised which.

use std::cell::RefCell;

use serde::{Deserialize, Serialize};

use crate::Param;
use crate::backend::batch_norm::{self, Moments};
use crate::backend::elementwise::add_assign;
use crate::backend::{download, upload};
use crate::error::{Error, Result};

thread_local! {
    static COLLECTED: RefCell<Option<Vec<BatchStatistics>>> = const { RefCell::new(None) };
}

/// What a normalisation found in a batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BatchStatistics {
    /// The parameters of the running mean, of the running variance, and of the number of batches.
    params: [String; 3],
    mean: Vec<f32>,
    var: Vec<f32>,
    rows: usize,
    momentum: f32,
}

/// Does `work`. The statistics of batches by which it normalises, in order, do not enter the running ones.
pub fn collect<R>(work: impl FnOnce() -> R) -> (R, Vec<BatchStatistics>) {
    let before = COLLECTED.replace(Some(Vec::new()));
    let result = work();
    (result, COLLECTED.replace(before).unwrap_or_default())
}

/// Lets collected statistics enter the running ones among `params`.
///
/// # Errors
/// If there are none of that name, or the device fails.
pub fn apply(statistics: &[BatchStatistics], params: &[Param]) -> Result<()> {
    for BatchStatistics { params: names, mean, var, rows, momentum } in statistics {
        let find = |name: &String| {
            let param = params.iter().find(|param| param.name() == name);
            param.ok_or_else(|| Error::Value(format!("there is no `{name}`")))
        };
        let [running_mean, running_var, batches] = names.each_ref().map(find);
        let (mean, var) = (upload(mean.clone())?, upload(var.clone())?);
        let moments = batch_norm::running_moments(&mean, &var)?;
        enter(&moments, [running_mean?, running_var?, batches?], *rows, *momentum)?;
    }
    Ok(())
}

/// Lets the moments of a batch enter the running ones: now, or when they are [`apply`]d. Of a batch that is that of several processes one
/// of them `tells`.
pub(super) fn track(
    moments: &Moments,
    params: [&Param; 3],
    rows: usize,
    momentum: f32,
    tells: bool,
) -> Result<()> {
    if COLLECTED.with_borrow(Option::is_none) {
        return enter(moments, params, rows, momentum);
    }
    if !tells {
        return Ok(());
    }
    let params = params.map(|param| param.name().to_owned());
    let (mean, var) = (download(&moments.mean)?, download(&moments.var)?);
    let statistics = BatchStatistics { params, mean, var, rows, momentum };
    COLLECTED.with_borrow_mut(|collected| collected.get_or_insert_default().push(statistics));
    Ok(())
}

fn enter(moments: &Moments, [mean, var, batches]: [&Param; 3], rows: usize, momentum: f32) -> Result<()> {
    batch_norm::update_running(&mut mean.values_mut(), &mut var.values_mut(), moments, rows, momentum)?;
    let one = upload(vec![1.0])?;
    add_assign(&mut batches.values_mut(), &one)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::BatchNorm;
    use crate::random::{Purpose, stream};
    use crate::testing::noise;
    use crate::{Context, Scope, Tensor};

    /// The running statistics behind two batches.
    fn after(normalize: impl FnOnce(&dyn Fn(u64), &[Param])) -> Vec<Vec<f32>> {
        let scope = Scope::new(0);
        let norm = BatchNorm::new(&scope.child("bn"), 3, 1e-5);
        let forward = |seed: u64| {
            let ctx = Context::train(stream(Purpose::Step, &[seed]));
            let x = Tensor::from_vec(noise(seed, 5 * 3), (5, 3), &ctx.tape).unwrap();
            norm.forward(x, &ctx).unwrap();
        };
        normalize(&forward, &scope.params());
        scope.params().iter().map(|param| param.to_vec().unwrap()).collect()
    }

    #[test]
    fn what_is_collected_enters_later_in_order() {
        let at_once = after(|forward, _| (1..3).for_each(forward));
        let later = after(|forward, params| {
            let before: Vec<_> = params.iter().map(|param| param.to_vec().unwrap()).collect();
            // Found in another order than that of the batches.
            let [second, first] = [2, 1].map(|seed| collect(|| forward(seed)).1);
            assert_eq!(before, params.iter().map(|param| param.to_vec().unwrap()).collect::<Vec<_>>());
            apply(&first, params).unwrap();
            apply(&second, params).unwrap();
            assert!(apply(&first, &[]).unwrap_err().to_string().contains("there is no `bn.running_mean`"));
        });
        assert_eq!(at_once, later);
    }
}
