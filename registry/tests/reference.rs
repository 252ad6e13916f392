//! The committed reference says what the registry says.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::Path;

use convmae_framework::reference::pages;
use convmae_registry as _;

const COMMAND: &str = "cargo run -- describe --markdown docs/src/reference";

#[test]
fn the_committed_reference_is_that_of_the_registry() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/src/reference"));
    let mut known = BTreeSet::new();
    for page in pages() {
        let committed = std::fs::read_to_string(folder.join(&page.name)).unwrap_or_default();
        assert!(committed == page.text, "docs/src/reference/{} is out of date: run `{COMMAND}`", page.name);
        known.insert(page.name);
    }
    let files =
        std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let left: Vec<_> = files.filter(|name| !known.contains(name)).collect();
    assert!(left.is_empty(), "docs/src/reference has pages of kinds that are gone, remove them: {left:?}");
    let summary = std::fs::read_to_string(folder.join("../SUMMARY.md")).unwrap();
    for name in known {
        assert!(
            summary.contains(&format!("(reference/{name})")),
            "docs/src/SUMMARY.md does not list reference/{name}"
        );
    }
}
