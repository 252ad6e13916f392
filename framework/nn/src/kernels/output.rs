//! Results that replace what is there, or are added to it.

use super::elementwise;

/// What becomes of the former values of an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// They are replaced, whatever they are.
    Replace,
    /// The result is added to them.
    Add,
}

impl Output {
    /// Writes `values` over `output`, or adds them.
    pub fn write(self, output: &mut [f32], values: &[f32]) {
        match self {
            Self::Replace => output.copy_from_slice(values),
            Self::Add => elementwise::add_assign(output, values),
        }
    }

    /// Zeros an output that is to be replaced, for a kernel that can only add.
    pub fn prepare(self, output: &mut [f32]) {
        if self == Self::Replace {
            output.fill(0.0);
        }
    }
}
