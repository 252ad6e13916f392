//! Segmentation as its users see it.

use serde_json::Value;

use crate::support::{Folder, recipe, stdout};

#[test]
fn the_base_segmentor_has_the_official_size() {
    let recipe = recipe("segmentation/upernet_convmae_base_160k.yaml");
    let json = stdout(&Folder::new().succeeds(["check", recipe.to_str().unwrap(), "--json"]));
    let checked: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(checked["trainable"], 160_175_664);
    assert_eq!(checked["macs"]["computed"], 612_920_983_552_u64);
    let parameters: Vec<_> =
        checked["nodes"].as_array().unwrap().iter().map(|node| &node["parameters"]).collect();
    assert_eq!(parameters, [91_091_716, 67_275_414, 1_808_534]);
}
