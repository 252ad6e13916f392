//! Batch transforms: what happens to samples once they are batched.

mod mixup;

pub use mixup::Mixup;
