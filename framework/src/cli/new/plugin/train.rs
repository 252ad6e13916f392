//! The head is trained beside a decoder.

use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn the_recipe_is_trained() {
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mean_color");
    let _ = fs::remove_dir_all(&out);
    let mut convmae = Command::new(env!("CARGO_BIN_EXE_{{name}}"));
    convmae.args([
        "run",
        "mean_color.yaml",
        "--set",
        "train.length=2 iterations",
        "--set",
        "data.val.dataset.length=8",
    ]);
    assert!(convmae.arg("--out").arg(&out).status().unwrap().success());
    let summary = fs::read_to_string(out.join("summary.json")).unwrap();
    assert!(summary.contains("\"val.color.mean_color\""), "{summary}");
    let environment = fs::read_to_string(out.join("environment.json")).unwrap();
    assert!(environment.contains("\"name\": \"{{name}}\""), "{environment}");
}
