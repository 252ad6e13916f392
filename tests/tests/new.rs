//! `convmae new` makes a crate that cargo builds.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::{Folder, file, stderr};

/// cargo as a user calls it: without what it tells the tests that it runs.
fn cargo(folder: &Path) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        let told = name.to_string_lossy();
        if told.starts_with("CARGO_") && told != "CARGO_HOME" {
            cargo.env_remove(name);
        }
    }
    cargo.current_dir(folder);
    cargo
}

/// What it compiles of convmae is checked only. The head is that of the crate `convmae-tests`, which trains it.
#[test]
fn the_crate_compiles_with_the_locked_dependencies() {
    let folder = Folder::new();
    folder.succeeds(["new", "my_convmae", "--convmae", file("").to_str().unwrap()]);
    let plugin = folder.path("my_convmae");
    let locked = fs::read_to_string(plugin.join("Cargo.lock")).unwrap();
    // The folder of the program that is tested is that of its profile, in the folder of all builds.
    let builds = Path::new(env!("CARGO_BIN_EXE_convmae-plugin")).ancestors().nth(2).unwrap();
    let output = cargo(&plugin)
        .args(["check", "--all-targets", "--offline", "--target-dir"])
        .arg(builds)
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{printed}");
    assert!(!printed.contains("warning"), "{printed}");
    let packages = |lock: &str| -> Vec<String> {
        let packages = lock.split("\n\n").filter(|package| package.contains("\nsource = "));
        packages.map(|package| package.lines().take(3).collect()).collect()
    };
    let locked = packages(&locked);
    let used = packages(&fs::read_to_string(plugin.join("Cargo.lock")).unwrap());
    assert!(used.len() > 100, "{used:?}");
    assert!(used.iter().all(|package| locked.contains(package)), "cargo has chosen other versions");
}

#[test]
fn its_recipe_is_right_and_its_commit_is_that_of_its_repository() {
    let folder = Folder::new();
    folder.succeeds(["new", "my_convmae", "--convmae", file("").to_str().unwrap()]);
    folder.succeeds(["check", "my_convmae/mean_color.yaml"]);
    let made = |name: &str| fs::read_to_string(folder.path("my_convmae").join(name)).unwrap();
    let manifest = made("Cargo.toml");
    assert!(
        manifest.contains("name = \"my_convmae\"") && manifest.contains("[profile.dev.package.gemm]"),
        "{manifest}"
    );
    assert!(made("build.rs").contains("convmae_commit::emit()"));
    for name in ["Cargo.toml", "src/main.rs", "tests/train.rs", "mean_color.yaml", "README.md"] {
        assert!(!made(name).contains("{{"), "{name} has a gap");
    }
}

#[test]
fn nothing_is_overwritten_and_nothing_half_made() {
    let folder = Folder::new();
    fs::create_dir(folder.path("mine")).unwrap();
    let convmae = file("");
    let convmae = convmae.to_str().unwrap();
    folder.fails(["new", "mine", "--convmae", convmae], 2, &["cannot make mine", "exists"]);
    folder.fails(["new", "2nd", "--convmae", convmae], 2, &["`2nd` is no name for a crate", "`my_convmae`"]);
    folder.fails(["new", "other", "--convmae", "."], 2, &["no checkout of convmae", "`--convmae DIR`"]);
    assert!(!folder.path("other").exists() && !folder.path("2nd").exists());
    let said = stderr(&folder.succeeds(["new", "mine/other", "--convmae", convmae]));
    assert!(said.contains("cd mine/other; cargo test"), "{said}");
}
