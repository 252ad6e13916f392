//! One step of an exponential moving average over all parameters.

use rayon::prelude::*;

use super::Values;
use super::elementwise::CHUNK;
use crate::Result;

/// An average and the parameter that it follows, of equal length.
pub type EmaTensor<'a> = EmaOperands<'a, Values>;

/// [`EmaTensor`] for values of any device.
pub struct EmaOperands<'a, V: ?Sized> {
    /// The average.
    pub average: &'a mut V,
    /// The parameter's values.
    pub values: &'a V,
    /// Share of the average that is kept; at 0 the values are copied.
    pub decay: f64,
}

/// `average = decay * average + (1 - decay) * values`, for all tensors.
pub fn ema(tensors: Vec<EmaTensor<'_>>) -> Result<()> {
    for EmaOperands { average, values, decay } in tensors {
        assert_eq!(average.len(), values.len());
        let (keep, take) = (decay as f32, (1.0 - decay) as f32);
        average.par_chunks_mut(CHUNK).zip(values.par_chunks(CHUNK)).for_each(|(average, values)| {
            if keep == 0.0 {
                return average.copy_from_slice(values);
            }
            for (average, value) in average.iter_mut().zip(values) {
                *average = keep * *average + take * value;
            }
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_move_by_what_is_not_kept_and_copies_forget_what_was() {
        let mut averages = [vec![1.0; CHUNK + 1], vec![f32::NAN; 2]];
        let values = [vec![3.0; CHUNK + 1], vec![3.0; 2]];
        let tensors = averages.iter_mut().zip(&values).zip([0.75, 0.0]);
        let tensors = tensors.map(|((average, values), decay)| EmaTensor { average, values, decay });
        ema(tensors.collect()).unwrap();
        assert_eq!(averages, [vec![1.5; CHUNK + 1], vec![3.0; 2]]);
    }
}
