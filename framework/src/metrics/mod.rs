//! Meters that turn losses and predictions into figures.
