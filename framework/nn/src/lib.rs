//! The layer on dfdx: tensors, tape, parameters, operations, layers.
//!
//! Tokens are `[B, N, C]`, channels last; a convolutional stage is the same with its positions grouped by patch
//! ([`layout::PatchLayout`]), so that 1x1 convolutions are matmuls and masked patches are simply absent. An operation
//! ([`ops`]) puts kernels of the [`backend`] on the tape.

pub mod backend;
pub mod backward;
pub mod ceiling;
pub mod completion;
pub mod context;
pub mod cpu;
pub mod device;
pub mod dry_run;
pub mod error;
pub mod gradients;
pub mod images;
pub mod init;
pub mod layers;
pub mod layout;
pub mod normalization;
pub mod ops;
#[cfg(test)]
mod oracle;
pub mod param;
pub mod position;
pub mod profile;
pub mod random;
pub mod scope;
pub mod shape;
pub mod simd;
pub mod tape;
pub mod tensor;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use context::Context;
pub use device::{Device, DeviceName, Precision, device};
pub use error::{Error, Result};
pub use images::{Images, Pixels};
pub use init::Init;
pub use layout::PatchLayout;
pub use normalization::Normalization;
pub use param::{Param, ParamKind};
pub use position::Positions;
pub use scope::Scope;
pub use shape::Shape;
pub use tape::Tape;
pub use tensor::Tensor;
