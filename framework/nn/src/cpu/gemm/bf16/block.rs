//! The parts that products are made of.

/// Lines of a block: rows of the left factor, columns of the right one.
pub const LINES: usize = 16;

/// Values of a line in a block.
pub const VALUES: usize = 32;

/// Pairs of them.
pub const PAIRS: usize = VALUES / 2;

/// 32 values of 16 lines in bf16, as pairs of successive values, the first one in the lower half: line by line, or pair by pair.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub struct Block(pub [[u32; PAIRS]; LINES]);

/// 16 rows and columns of an output.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub struct Sums(pub [[f32; LINES]; LINES]);
