//! Results that replace what is there, or are added to it.

/// What becomes of the former values of an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// They are replaced, whatever they are.
    Replace,
    /// The result is added to them.
    Add,
}
