//! Recipes: layers, references, provenance, diagnostics. Knows no tensors.
