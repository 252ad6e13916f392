//! From a resolved recipe to a checked and built model.
