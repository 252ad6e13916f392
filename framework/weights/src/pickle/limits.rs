//! Bounds on what a pickle may ask for.

/// Values in one pickle; a full ConvMAE checkpoint has about 20 000, logs of losses may have a million.
pub(super) const MAX_VALUES: usize = 1 << 21;
/// Nesting of containers; that of a whole module, pickled with its submodules, is about 100.
pub(super) const MAX_DEPTH: usize = 256;
/// Axes of a tensor.
pub(super) const MAX_AXES: usize = 16;
/// Bytes of a storage's key, a small number in decimal.
pub(super) const MAX_KEY: usize = 64;
/// Bytes of the arrays in a pickle, and of what is copied while it is read, as a multiple of its own.
pub(super) const MAX_EXPANSION: usize = 16;
