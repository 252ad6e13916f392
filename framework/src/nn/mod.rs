//! The layer on dfdx: tensors, tape, parameters, operations, modules.
