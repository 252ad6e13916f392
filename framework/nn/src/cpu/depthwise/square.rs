//! Squares of positions and blocks of channels as vectors.

use pulp::Simd;

use super::super::simd::prefetch;

/// `W` vectors of channels.
pub type Lanes<S, const W: usize> = [<S as Simd>::f32s; W];

/// A square of positions.
pub type Square<S, const SIDE: usize, const W: usize> = [[Lanes<S, W>; SIDE]; SIDE];

/// Rows of channels, `W` vectors at a time.
pub struct Rows<'a, S: Simd, const W: usize> {
    values: &'a [Lanes<S, W>],
    /// Blocks of `W` vectors in a row.
    blocks: usize,
}

impl<'a, S: Simd, const W: usize> Rows<'a, S, W> {
    /// `values` are `[rows, channels]`.
    #[inline(always)]
    pub fn new(values: &'a [f32], channels: usize) -> Self {
        let (values, _) = S::as_simd_f32s(values).0.as_chunks();
        Self { values, blocks: channels / (W * S::F32_LANES) }
    }

    /// One block of a row.
    #[inline(always)]
    pub fn get(&self, row: usize, block: usize) -> Lanes<S, W> {
        self.values[row * self.blocks + block]
    }

    /// Asks for blocks that are read soon, counted from the first row's first on.
    #[inline(always)]
    pub fn prefetch(&self, start: usize, len: usize) {
        prefetch(self.values.as_ptr().wrapping_add(start), len);
    }

    /// One block of those of `SIDE` successive rows that a range names, and zeros.
    #[inline(always)]
    pub fn line<const SIDE: usize>(
        &self,
        simd: S,
        row: usize,
        block: usize,
        start: usize,
        end: usize,
    ) -> [Lanes<S, W>; SIDE] {
        let mut line = [[simd.splat_f32s(0.0); W]; SIDE];
        for (index, lanes) in line.iter_mut().enumerate() {
            if (start..end).contains(&index) {
                *lanes = self.get(row + index, block);
            }
        }
        line
    }
}

/// A value on cache lines of its own: a vector that straddles two takes twice the time to load.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub struct Aligned<T>(pub T);

/// Repeats a block for successive constants. Sums stay in registers only if every index into them is a constant.
macro_rules! unroll {
    ($index:ident in [$($value:literal)*] $body:block) => {
        $({
            const $index: usize = $value;
            $body
        })*
    };
}

/// Calls a function with the ends of a range of shifts as constants: all ranges that occur for sides up to 4 and odd kernels.
macro_rules! with_shifts {
    ($shifts:expr, $function:ident::<$S:ty, $SIDE:ident, $W:ident>$arguments:tt) => {
        with_shifts!(@ $shifts, $function, $S, $SIDE, $W, $arguments,
            (0 1) (0 2) (0 3) (0 4) (0 5) (0 6) (0 7) (1 7) (2 7) (3 7) (4 7) (5 7) (6 7) (1 6) (2 5) (3 4)
            (1 3) (2 3) (1 2))
    };
    (@ $shifts:expr, $function:ident, $S:ty, $SIDE:ident, $W:ident, $arguments:tt, $(($start:literal $end:literal))*) => {
        match ($shifts.start, $shifts.end) {
            $(($start, $end) if const { $end < 2 * $SIDE } => {
                with_shifts!(@call $function::<$S, $SIDE, $W, $start, $end>$arguments)
            })*
            (start, end) => unreachable!("shifts {start}..{end} of squares of {}", $SIDE),
        }
    };
    (@call $function:ident::<$S:ty, $SIDE:ident, $W:ident, $start:literal, $end:literal>($($argument:expr),*)) => {
        $function::<$S, $SIDE, $W, $start, $end>($($argument),*)
    };
}

pub(super) use {unroll, with_shifts};

/// `sum += a * b`, fused where the machine can.
#[inline(always)]
pub fn mul_add<S: Simd, const W: usize>(simd: S, sum: &mut Lanes<S, W>, a: &Lanes<S, W>, b: &Lanes<S, W>) {
    for index in 0..W {
        sum[index] = simd.mul_add_e_f32s(a[index], b[index], sum[index]);
    }
}
