//! A recipe as it was most likely meant: what else is wrong with it can be told, too.

use serde_json::Value;

use super::diagnostics::{Fault, Remedy};
use super::path;

/// Gives misspelt keys their names, and leaves out those that nobody knows.
pub(super) fn mend(recipe: &mut Value, faults: &[Fault]) {
    for Fault { problem, remedy, .. } in faults {
        let (Some(remedy), Some((block, name))) = (remedy, path::split_last(&problem.key)) else { continue };
        let Some(block) = path::lookup_mut(recipe, block).and_then(Value::as_object_mut) else { continue };
        let Some(value) = block.shift_remove(name) else { continue };
        if let Remedy::Rename(meant) = remedy {
            block.entry(meant).or_insert(value);
        }
    }
}
