//! Images that a model is asked about: those that a command names, prepared in batches.

mod batches;
mod find;

pub use batches::ImageBatches;
pub use find::find;
