//! Components of a third party: a masker, necks, heads and a block that convmae knows nothing of.
//!
//! A crate like this one depends on the framework, writes its components, and links them with those of the
//! registry into a program of its own (`main.rs`). All end-to-end tests run that program.

pub mod plugin;

use convmae_registry as _;
