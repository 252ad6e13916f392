//! Products of all kernels that this processor has, next to sums in `f64` of factors rounded by the crate `half`.

use half::bf16;
use proptest::prelude::*;

use super::*;
use crate::testing::{assert_close, noise, on_threads};

/// A product of noise.
#[derive(Debug, Clone, Copy)]
struct Case {
    m: usize,
    n: usize,
    k: usize,
    /// Whether the factors are stored by columns.
    by_columns: [bool; 2],
    mode: Output,
    factor: f32,
}

const FORMER: f32 = 0.5;

impl Case {
    fn plain(m: usize, n: usize, k: usize) -> Self {
        Self { m, n, k, by_columns: [false; 2], mode: Output::Replace, factor: 1.0 }
    }

    fn factors(self) -> [Vec<f32>; 2] {
        [noise(1, self.m * self.k), noise(2, self.k * self.n)]
    }

    fn product(self, instructions: Instructions) -> Vec<f32> {
        let Self { m, n, k, by_columns, mode, factor } = self;
        let [a, b] = self.factors();
        let [a_cols, b_cols] = [columns(&a, m, k), columns(&b, k, n)];
        let a = if by_columns[0] { Matrix::new(&a_cols, k, m).t() } else { Matrix::new(&a, m, k) };
        let b = if by_columns[1] { Matrix::new(&b_cols, n, k).t() } else { Matrix::new(&b, k, n) };
        let mut out = vec![if mode == Output::Add { FORMER } else { f32::NAN }; m * n];
        let target = Target::new(&mut out, &mut [], [m, n], None::<fn(Segment<'_>)>);
        product(instructions, target, mode, factor, a, b, Threads::All);
        out
    }

    fn expected(self) -> Vec<f64> {
        let Self { m, n, k, mode, factor, .. } = self;
        let [a, b] = self.factors().map(|values| values.into_iter().map(bf16::from_f32).collect::<Vec<_>>());
        let former = if mode == Output::Add { f64::from(FORMER) } else { 0.0 };
        let sum = |at: usize| -> f64 {
            (0..k).map(|l| a[at / n * k + l].to_f64() * b[l * n + at % n].to_f64()).sum()
        };
        (0..m * n).map(|at| former + f64::from(factor) * sum(at)).collect()
    }

    fn check(self) {
        for instructions in Instructions::all() {
            assert_close(&self.product(instructions), &self.expected(), 1e-5);
        }
    }
}

fn columns(values: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    (0..rows * cols).map(|at| values[at % rows * cols + at / rows]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn products_are_those_of_rounded_factors(
        (m, n, k) in (1..90_usize, 1..120_usize, 0..90_usize),
        by_columns in any::<[bool; 2]>(),
        adds in any::<bool>(),
        factor in prop::sample::select(vec![1.0_f32, -0.5]),
    ) {
        let mode = if adds { Output::Add } else { Output::Replace };
        Case { m, n, k, by_columns, mode, factor }.check();
    }
}

#[test]
fn products_of_several_stretches_tiles_and_packed_rows_are_those_of_rounded_factors() {
    Case::plain(40, 100, 2 * DEPTH + 33).check();
    Case { by_columns: [true; 2], mode: Output::Add, ..Case::plain(70, 33, DEPTH + 1) }.check();
    Case::plain(PACKED_ROWS + 17, 200, 5).check();
    Case::plain(TILE[0] + 1, 8 * TILE[1] + 1, 3).check();
}

#[test]
fn they_do_not_depend_on_the_number_of_threads() {
    for instructions in Instructions::all() {
        for case in [Case::plain(197, 130, DEPTH + 60), Case::plain(1100, 70, 65)] {
            let product = |threads| on_threads(threads, || case.product(instructions));
            assert_eq!(product(1), product(2));
            assert_eq!(product(1), product(3));
        }
    }
}

#[test]
fn factors_are_rounded_to_the_nearest_and_of_two_to_the_even_one() {
    let values = [1.0, -1.0, 1.003_906_3, 1.011_718_8, 0.1, -3.3e38, f32::INFINITY, f32::NAN];
    for instructions in Instructions::all() {
        let mut out = [0.0; 8];
        let target = Target::new(&mut out, &mut [], [8, 1], None::<fn(Segment<'_>)>);
        let (a, b) = (Matrix::new(&values, 8, 1), Matrix::new(&[1.0], 1, 1));
        product(instructions, target, Output::Replace, 1.0, a, b, Threads::One);
        for (found, value) in out.iter().zip(values) {
            let expected = bf16::from_f32(value).to_f32();
            assert!(
                found.to_bits() == expected.to_bits() || (found.is_nan() && expected.is_nan()),
                "{found}"
            );
        }
    }
}

#[test]
fn what_follows_sees_whole_values_once() {
    let case = Case::plain(50, 210, DEPTH + 5);
    let [a, b] = case.factors();
    for instructions in Instructions::all() {
        let (mut out, mut second) = (vec![f32::NAN; 50 * 210], vec![0.0; 50 * 210]);
        let finish = |Segment { out, second, .. }: Segment<'_>| {
            second.iter_mut().zip(&*out).for_each(|(second, out)| *second += out);
        };
        let target = Target::new(&mut out, &mut second, [50, 210], Some(finish));
        let (a, b) = (Matrix::new(&a, 50, case.k), Matrix::new(&b, case.k, 210));
        product(instructions, target, Output::Replace, 1.0, a, b, Threads::All);
        assert_eq!(out, case.product(instructions));
        assert_eq!(out, second);
    }
}
