//! Elementwise arithmetic in place.

use super::module::{Grid, Source, arguments, source};
use super::{Output, Values};
use crate::Result;

static KERNELS: Source = source!("elementwise");

/// `y += x`.
pub fn add_assign(y: &mut Values, x: &Values) -> Result<()> {
    assert_eq!(y.len(), x.len());
    KERNELS.launch("add_assign", Grid::elements(y.len()), arguments![*y, *x, y.len()])
}

/// Writes `values` over `sum`, or adds them to it.
pub fn accumulate(sum: &mut Values, values: &Values, mode: Output) -> Result<()> {
    match mode {
        Output::Replace => sum.copy_from(values),
        Output::Add => add_assign(sum, values),
    }
}

/// `y *= x`.
pub fn mul_assign(y: &mut Values, x: &Values) -> Result<()> {
    assert_eq!(y.len(), x.len());
    KERNELS.launch("mul_assign", Grid::elements(y.len()), arguments![*y, *x, y.len()])
}

/// Multiplies the `i`-th of `factors.len()` equal parts of `y` by `factors[i]`.
pub fn scale_parts(y: &mut Values, factors: &Values) -> Result<()> {
    assert!(!factors.is_empty() && y.len().is_multiple_of(factors.len()));
    let part = y.len() / factors.len();
    KERNELS.launch("scale_parts", Grid::elements(y.len()), arguments![*y, *factors, part, y.len()])
}

/// Multiplies the channels of `y` `[B, N, C]` by `factors` `[B, C]`.
pub fn scale_channels(y: &mut Values, factors: &Values, channels: usize) -> Result<()> {
    assert!(channels > 0 && factors.len().is_multiple_of(channels));
    let batch = factors.len() / channels;
    assert!(batch > 0 && y.len().is_multiple_of(factors.len()));
    let image = y.len() / batch;
    let arguments = arguments![*y, *factors, image, channels, y.len()];
    KERNELS.launch("scale_channels", Grid::elements(y.len()), arguments)
}

/// `y *= factor`.
pub fn scale(y: &mut Values, factor: f32) -> Result<()> {
    KERNELS.launch("scale", Grid::elements(y.len()), arguments![*y, factor, y.len()])
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Case, on_card};
    use super::*;
    use crate::cpu::elementwise as cpu;
    use crate::testing::noise;

    /// One value, less than a block, more than the grid takes at once.
    const LENGTHS: [usize; 3] = [1, 7 * 30, 600_000];

    #[test]
    fn pairs_are_as_on_the_cpu() {
        for len in LENGTHS {
            let (y, x) = (noise(1, len), noise(2, len));
            let case = Case::exact("rounded once");
            case.in_place(&y, |y| cpu::add_assign(y, &x), |y| add_assign(y, &on_card(&x)));
            case.in_place(&y, |y| cpu::mul_assign(y, &x), |y| mul_assign(y, &on_card(&x)));
            case.in_place(&y, |y| cpu::scale(y, 0.3), |y| scale(y, 0.3));
            for mode in [Output::Replace, Output::Add] {
                case.in_place(&y, |y| cpu::accumulate(y, &x, mode), |y| accumulate(y, &on_card(&x), mode));
            }
        }
    }

    #[test]
    fn factors_are_as_on_the_cpu() {
        let case = Case::exact("rounded once");
        for (batch, tokens, channels) in [(1, 1, 1), (3, 7, 24), (2, 49, 256)] {
            let y = noise(1, batch * tokens * channels);
            let factors = noise(2, batch);
            case.in_place(&y, |y| cpu::scale_parts(y, &factors), |y| scale_parts(y, &on_card(&factors)));
            let factors = noise(3, batch * channels);
            case.in_place(
                &y,
                |y| cpu::scale_channels(y, &factors, channels),
                |y| scale_channels(y, &on_card(&factors), channels),
            );
        }
        case.in_place(&[], |y| cpu::scale(y, 0.3), |y| scale(y, 0.3));
    }
}
