//! Statistics of the batches that several processes normalise at the same time (`SyncBN`).

use std::cell::RefCell;
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use crate::Param;
use crate::backend::batch_norm::{self, Moments};
use crate::backend::{Buffer, download, upload};
use crate::error::{Error, Result};

thread_local! {
    static EXCHANGE: RefCell<Option<Rc<dyn Exchange>>> = const { RefCell::new(None) };
}

/// What brings processes together at a normalisation.
pub trait Exchange {
    /// What every process gives that has such a batch, in order of rank.
    ///
    /// # Errors
    /// If another process fails.
    fn exchange(&self, own: Part) -> Result<Vec<Part>>;

    /// Whether this process is the one that tells running statistics for all.
    fn is_first(&self) -> bool;
}

/// What a process knows of a normalisation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Which normalisation it is: the name of its running mean.
    layer: String,
    /// Whether it is of the backward.
    of_backward: bool,
    /// Rows of the process's batch: none of one in which no region was found.
    rows: usize,
    /// Mean and variance, or the gradients of scale and shift, `[C]` each; nothing of no rows.
    values: [Vec<f32>; 2],
}

/// Does `work`, whose normalisations with [`super::BatchNorm::sync`] are among those of other processes.
pub fn among<R>(exchange: Rc<dyn Exchange>, work: impl FnOnce() -> R) -> R {
    let before = EXCHANGE.replace(Some(exchange));
    let result = work();
    EXCHANGE.set(before);
    result
}

/// The other processes, if there are some.
pub(super) fn others() -> Option<Rc<dyn Exchange>> {
    EXCHANGE.with_borrow(Clone::clone)
}

/// The moments of the rows of all processes, and how many these are; `own` are those of this process's `rows`, if it has any.
pub(super) fn moments(
    exchange: &dyn Exchange,
    layer: &Param,
    own: Option<&Moments>,
    rows: usize,
) -> Result<Option<(Moments, usize)>> {
    let values = own.map_or(Ok([Vec::new(), Vec::new()]), |own| {
        Ok::<_, Error>([download(&own.mean)?, download(&own.var)?])
    })?;
    let parts = meet(exchange, Part { layer: layer.name().to_owned(), of_backward: false, rows, values })?;
    let parts: Vec<_> = parts.iter().filter(|part| part.rows > 0).collect();
    let total: usize = parts.iter().map(|part| part.rows).sum();
    let weighted = |value: &dyn Fn(&Part) -> f64| {
        let sum: f64 = parts.iter().map(|part| part.rows as f64 * value(part)).sum();
        sum / total as f64
    };
    let (mut mean, mut var) = (Vec::new(), Vec::new());
    for channel in 0..parts.first().map_or(0, |part| part.values[0].len()) {
        let of_all = weighted(&|part| f64::from(part.values[0][channel]));
        let offset = |part: &Part| f64::from(part.values[0][channel]) - of_all;
        mean.push(of_all as f32);
        var.push(weighted(&|part| f64::from(part.values[1][channel]) + offset(part).powi(2)) as f32);
    }
    if total == 0 {
        return Ok(None);
    }
    let (mean, var) = (upload(mean)?, upload(var)?);
    Ok(Some((batch_norm::running_moments(&mean, &var)?, total)))
}

/// The gradients of scale and shift of the rows of all processes, of which `rows` are this one's.
pub(super) fn grad_affine(
    exchange: &dyn Exchange,
    layer: &Param,
    own: &[Buffer; 2],
    rows: usize,
) -> Result<[Buffer; 2]> {
    let [scale, shift] = own;
    let values = [download(scale)?, download(shift)?];
    let parts = meet(exchange, Part { layer: layer.name().to_owned(), of_backward: true, rows, values })?;
    let sum = |which: usize| {
        let of_channel = |channel| {
            let terms = parts.iter().map(|part| f64::from(part.values[which][channel]));
            terms.sum::<f64>() as f32
        };
        upload((0..layer.numel()).map(of_channel).collect())
    };
    Ok([sum(0)?, sum(1)?])
}

/// Every process is at the same normalisation, or its statistics would be those of another.
fn meet(exchange: &dyn Exchange, own: Part) -> Result<Vec<Part>> {
    let parts = exchange.exchange(own)?;
    let same = |[a, b]: &[Part; 2]| {
        let length = |part: &Part| part.values.each_ref().map(Vec::len);
        let fits = a.rows == 0 || b.rows == 0 || length(a) == length(b);
        (&a.layer, a.of_backward) == (&b.layer, b.of_backward) && fits
    };
    match parts.array_windows().find(|pair| !same(pair)) {
        None => Ok(parts),
        Some([a, b]) => Err(Error::Value(format!(
            "processes that share statistics of batches (`sync`) are at different places: `{}` and `{}`",
            a.layer, b.layer
        ))),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Barrier, Mutex};

    use super::*;
    use crate::Scope;
    use crate::layers::{BatchNorm, running_statistics};
    use crate::testing::{
        Outcome, assert_close, context, loss_weights, noise, noise_param, run_against, wide,
    };

    const CHANNELS: usize = 5;

    /// A thread in the place of a process.
    struct Thread {
        rank: usize,
        given: Arc<Mutex<Vec<Option<Part>>>>,
        barrier: Arc<Barrier>,
    }

    impl Exchange for Thread {
        fn exchange(&self, own: Part) -> Result<Vec<Part>> {
            self.given.lock().unwrap()[self.rank] = Some(own);
            self.barrier.wait();
            let all = self.given.lock().unwrap().iter().flatten().cloned().collect();
            // Nobody gives anything else before all have read.
            self.barrier.wait();
            Ok(all)
        }

        fn is_first(&self) -> bool {
            self.rank == 0
        }
    }

    /// What every thread makes of `work`.
    fn together<R: Send>(threads: usize, work: impl Fn(usize) -> R + Sync) -> Vec<R> {
        let given = Arc::new(Mutex::new(vec![None; threads]));
        let barrier = Arc::new(Barrier::new(threads));
        std::thread::scope(|scope| {
            let thread = |rank| {
                let thread = Thread { rank, given: Arc::clone(&given), barrier: Arc::clone(&barrier) };
                let work = &work;
                scope.spawn(move || among(Rc::new(thread), || work(rank)))
            };
            let threads: Vec<_> = (0..threads).map(thread).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }

    fn norm(name: &str) -> BatchNorm {
        let scope = Scope::new(0);
        BatchNorm {
            affine: Some([1, 2].map(|seed| noise_param(seed, &[CHANNELS]))),
            ..BatchNorm::new(&scope.child(name), CHANNELS, 1e-5).sync(true)
        }
    }

    struct Normalized {
        outcome: Outcome,
        running: [Vec<f32>; 3],
    }

    /// Normalises `rows` rows from number `first` on, of values far from zero.
    fn normalize(norm: &BatchNorm, first: usize, rows: usize) -> Normalized {
        let part = |values: Vec<f32>| values[first * CHANNELS..(first + rows) * CHANNELS].to_vec();
        let x = part(noise(5, 64 * CHANNELS).iter().map(|value| 30.0 + value).collect());
        let params: Vec<&Param> = norm.affine.iter().flatten().collect();
        let weights = |_| part(loss_weights(64 * CHANNELS));
        let forward = |x| norm.forward(x, &context(true));
        let outcome = run_against(&x, (rows, CHANNELS), &params, weights, forward);
        let running = [&norm.running_mean, &norm.running_var, &norm.num_batches_tracked];
        Normalized { outcome, running: running.map(|param| param.to_vec().unwrap()) }
    }

    /// The oracle is one process with the rows of all.
    #[test]
    fn several_processes_normalise_as_one_with_all_rows() {
        for counts in [vec![8, 8], vec![3, 1, 12], vec![0, 7], vec![5, 0, 0, 2]] {
            let whole = normalize(&norm("bn"), 0, counts.iter().sum());
            let first = |rank: usize| counts[..rank].iter().sum();
            let parts = together(counts.len(), |rank| normalize(&norm("bn"), first(rank), counts[rank]));
            let rows = |of: &dyn Fn(&Normalized) -> Vec<f32>| parts.iter().flat_map(of).collect::<Vec<f32>>();
            assert_close(&rows(&|part| part.outcome.values.clone()), &wide(&whole.outcome.values), 1e-5);
            assert_close(&rows(&|part| part.outcome.grads[0].clone()), &wide(&whole.outcome.grads[0]), 1e-5);
            for param in 1..3 {
                let sum = |channel: usize| parts.iter().map(|part| part.outcome.grads[param][channel]).sum();
                let sums: Vec<f32> = (0..CHANNELS).map(sum).collect();
                assert_close(&sums, &wide(&whole.outcome.grads[param]), 1e-5);
            }
            for part in &parts {
                assert_eq!(part.running, parts[0].running, "the same in every process");
                for (own, whole) in part.running.iter().zip(&whole.running) {
                    assert_close(own, &wide(whole), 1e-6);
                }
            }
        }
    }

    #[test]
    fn without_rows_anywhere_nothing_changes() {
        let parts = together(2, |_| normalize(&norm("bn"), 0, 0));
        for Normalized { outcome, running } in parts {
            assert!(outcome.values.is_empty());
            assert_eq!(running, [vec![0.0; CHANNELS], vec![1.0; CHANNELS], vec![0.0]]);
        }
    }

    #[test]
    fn one_process_tells_the_running_statistics_of_all() {
        let told =
            together(3, |rank| running_statistics::collect(|| normalize(&norm("bn"), 4 * rank, 4)).1.len());
        assert_eq!(told, [1, 0, 0]);
    }

    #[test]
    fn without_sync_a_process_is_alone() {
        let alone = normalize(&norm("bn"), 0, 8).outcome;
        let among_others = together(2, |_| normalize(&norm("bn").sync(false), 0, 8).outcome);
        assert!(among_others.iter().all(|own| *own == alone));
    }

    #[test]
    fn processes_at_different_places_are_told() {
        let x = |ctx: &crate::Context| {
            crate::Tensor::from_vec(noise(1, 2 * CHANNELS), (2, CHANNELS), &ctx.tape).unwrap()
        };
        let messages = together(2, |rank| {
            let ctx = context(true);
            norm(["a", "b"][rank]).forward(x(&ctx), &ctx).unwrap_err().to_string()
        });
        for message in messages {
            assert!(
                message.ends_with("are at different places: `a.running_mean` and `b.running_mean`"),
                "{message}"
            );
        }
    }

    #[test]
    fn a_frozen_one_waits_for_nobody() {
        let frozen = || BatchNorm::new(&Scope::new(0).freeze(), CHANNELS, 1e-5).sync(true);
        assert_eq!(together(1, |_| (norm("bn").is_shared(), frozen().is_shared())), [(true, false)]);
        assert!(!norm("bn").is_shared(), "there are no others");
    }
}
