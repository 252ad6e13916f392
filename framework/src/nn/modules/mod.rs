//! Modules: parameters and operations under the names of the official checkpoints.
