//! Goldens and end-to-end tests of convmae.
