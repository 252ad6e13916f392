//! Samples, batches, image operations, and the loader.
