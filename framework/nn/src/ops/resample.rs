//! Maps of another size: adaptive average pooling, bilinear and nearest interpolation.

use super::operation::operation;
use crate::backend::Buffer;
use crate::backend::resample::{self, Resample, Side};
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// Means over `output` (rows, columns) bins of maps `[B, H, W, C]`, as PyTorch's `adaptive_avg_pool2d`: bin `i` of a side goes from
/// `floor(i * in / out)` up to `ceil((i + 1) * in / out)`. The output may be larger than the input.
///
/// # Errors
/// If the maps or the output are empty.
pub fn adaptive_avg_pool2d(x: Tensor, output: (usize, usize)) -> Result<Tensor> {
    resample(x, output, Side::adaptive_average)
}

/// Maps `[B, H, W, C]` interpolated to `output` (rows, columns), as PyTorch's `interpolate(size=output, mode="bilinear",
/// align_corners=False)`: without smoothing where the output is smaller.
///
/// # Errors
/// If the maps or the output are empty.
pub fn resize_bilinear(x: Tensor, output: (usize, usize)) -> Result<Tensor> {
    resample(x, output, Side::linear)
}

/// Maps `[B, H, W, C]` enlarged or thinned out to `output` (rows, columns), as PyTorch's `interpolate(size=output, mode="nearest")`.
///
/// # Errors
/// If the maps or the output are empty.
pub fn resize_nearest(x: Tensor, output: (usize, usize)) -> Result<Tensor> {
    resample(x, output, Side::nearest)
}

fn resample(x: Tensor, output: (usize, usize), side: fn(usize, usize) -> Side) -> Result<Tensor> {
    let (batch, height, width, channels) = x.dims4()?;
    if batch * height * width * channels == 0 || output.0 * output.1 == 0 {
        return Err(Error::Shape(format!(
            "maps {:?} cannot become maps of {} x {}: one of them is empty",
            x.shape(),
            output.0,
            output.1
        )));
    }
    if output == (height, width) {
        return Ok(x);
    }
    let resample = Resample { rows: side(height, output.0), cols: side(width, output.1) };
    operation(vec![x], (batch, output.0, output.1, channels), move |inputs, records| {
        let output = resample::forward(&resample, &inputs[0], channels)?;
        let backward = move |grad: Buffer| Ok(vec![Some(resample::grad_input(&resample, &grad, channels)?)]);
        Ok((output, records.then(|| Box::new(backward) as _)))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{
        Outcome, assert_close, assert_golden, check_gradient, golden, golden_shape, loss_weights, noise,
        on_threads, run, run_against, segmentation_golden, wide,
    };
    use crate::{Tape, oracle};

    type Operation = fn(Tensor, (usize, usize)) -> Result<Tensor>;

    /// The weight of an input in an output, by definition.
    type Definition = fn(usize, usize, (usize, usize)) -> f64;

    const OPERATIONS: [(Operation, Definition); 3] =
        [(adaptive_avg_pool2d, average), (resize_bilinear, linear), (resize_nearest, nearest)];

    fn average(input: usize, output: usize, (inputs, outputs): (usize, usize)) -> f64 {
        let start = output * inputs / outputs;
        let end = ((output + 1) * inputs).div_ceil(outputs);
        if (start..end).contains(&input) { 1.0 / (end - start) as f64 } else { 0.0 }
    }

    /// Of a tent around the position; the border counts for all beyond.
    fn linear(input: usize, output: usize, (inputs, outputs): (usize, usize)) -> f64 {
        let position = (output as f64 + 0.5) * inputs as f64 / outputs as f64 - 0.5;
        (1.0 - (position.clamp(0.0, inputs as f64 - 1.0) - input as f64).abs()).max(0.0)
    }

    fn nearest(input: usize, output: usize, (inputs, outputs): (usize, usize)) -> f64 {
        if output * inputs / outputs == input { 1.0 } else { 0.0 }
    }

    /// Every output by all inputs, in f64.
    fn direct(
        x: &[f64],
        shape: (usize, usize, usize, usize),
        output: (usize, usize),
        of: Definition,
    ) -> Vec<f64> {
        let (batch, height, width, channels) = shape;
        let mut y = Vec::new();
        for index in 0..batch * output.0 * output.1 * channels {
            let (position, channel) = (index / channels, index % channels);
            let (image, row, col) =
                (position / output.1 / output.0, position / output.1 % output.0, position % output.1);
            let term = |at: usize| {
                let weight = of(at / width, row, (height, output.0)) * of(at % width, col, (width, output.1));
                weight * x[(image * height * width + at) * channels + channel]
            };
            y.push((0..height * width).map(term).sum());
        }
        y
    }

    #[test]
    fn gradients_match_finite_differences() {
        let shape = (2, 4, 5, 2);
        let x = noise(1, 80);
        for (operation, definition) in OPERATIONS {
            for output in [(1, 1), (3, 2), (6, 7)] {
                let own = run(&x, shape, &[], |x| operation(x, output));
                check_gradient(&x, &own.grads[0], |x| {
                    let y = direct(x, shape, output, definition);
                    y.iter().zip(loss_weights(y.len())).map(|(y, weight)| y * f64::from(weight)).sum()
                });
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn equals_its_definition_and_the_composition(
            (batch, height, width, channels) in (1usize..3, 1usize..12, 1usize..12, 1usize..5),
            (rows, cols) in (1usize..16, 1usize..16),
        ) {
            let shape = (batch, height, width, channels);
            let x = noise(1, batch * height * width * channels);
            for ((operation, definition), side) in
                OPERATIONS.into_iter().zip([Side::adaptive_average, Side::linear, Side::nearest]) {
                let own = run(&x, shape, &[], |x| operation(x, (rows, cols)));
                assert_close(&own.values, &direct(&wide(&x), shape, (rows, cols), definition), 2e-6);
                let resample = Resample { rows: side(height, rows), cols: side(width, cols) };
                let other = run(&x, shape, &[], |x| oracle::resample(x, &resample));
                own.assert_close(&other, 5e-6);
            }
        }
    }

    #[test]
    fn it_is_what_pytorch_computes() {
        let tensors = segmentation_golden();
        let compare = |input: &str, case: &str, operation: Operation| {
            let (x, shape) = (golden(&tensors, input), golden_shape(&tensors, input));
            let (y, grad) = (format!("{case}.y"), golden(&tensors, &format!("{case}.gy")));
            let (_, rows, cols, _) = golden_shape(&tensors, &y);
            let Outcome { values, grads } =
                run_against(&x, shape, &[], |_| grad, |x| operation(x, (rows, cols)));
            assert_golden(case, &values, &golden(&tensors, &y), 2e-6);
            assert_golden(case, &grads[0], &golden(&tensors, &format!("{case}.gx")), 2e-5);
        };
        let mut compared = 0;
        for name in tensors.names() {
            match name.strip_suffix(".y") {
                Some(case) if case.starts_with("pool.") => {
                    let (map, _) = case.rsplit_once('.').unwrap();
                    compare(&format!("{map}.x"), case, adaptive_avg_pool2d);
                }
                Some(case) if case.starts_with("bilinear.") => {
                    compare(&format!("{case}.x"), case, resize_bilinear);
                }
                _ => continue,
            }
            compared += 1;
        }
        assert_eq!(compared, 16 + 12);
    }

    #[test]
    fn the_result_does_not_depend_on_the_number_of_threads() {
        let outcome = |threads, operation: Operation, output| {
            on_threads(threads, || {
                let x = noise(1, 2 * 40 * 30 * 24);
                run(&x, (2, 40, 30, 24), &[], |x| operation(x, output))
            })
        };
        for (operation, _) in OPERATIONS {
            for output in [(7, 11), (90, 70)] {
                assert_eq!(outcome(1, operation, output), outcome(3, operation, output));
            }
        }
    }

    #[test]
    fn the_same_size_changes_nothing() {
        let x = noise(1, 60);
        for (operation, _) in OPERATIONS {
            let outcome = run(&x, (1, 5, 4, 3), &[], |x| operation(x, (5, 4)));
            assert_eq!((outcome.values, &outcome.grads[0]), (x.clone(), &loss_weights(60)));
        }
    }

    #[test]
    fn nothing_comes_from_or_becomes_an_empty_map() {
        let maps =
            |height: usize| Tensor::from_vec(noise(1, height * 6), (1, height, 3, 2), &Tape::none()).unwrap();
        for (operation, _) in OPERATIONS {
            assert!(matches!(operation(maps(0), (2, 2)), Err(Error::Shape(_))));
            assert!(matches!(operation(maps(2), (2, 0)), Err(Error::Shape(_))));
            assert_eq!(operation(maps(2), (1, 1)).unwrap().to_vec().unwrap().len(), 2);
        }
    }
}
