//! Bounds on what a pickle may ask for.

/// Values in one pickle; a full ConvMAE checkpoint has about 20 000.
pub(super) const MAX_VALUES: usize = 1 << 20;
/// Nesting of containers.
pub(super) const MAX_DEPTH: usize = 64;
/// Axes of a tensor.
pub(super) const MAX_AXES: usize = 16;
/// Bytes of a storage's key, a small number in decimal.
pub(super) const MAX_KEY: usize = 64;
