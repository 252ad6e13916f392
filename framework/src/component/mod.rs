//! The contract of the registry: one trait per kind of component.
