//! The `convmae` program.

fn main() {}
