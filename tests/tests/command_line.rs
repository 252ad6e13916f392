//! What the program tells of itself: version, completions, manual.

use std::fs;
use std::process::Command;

use assert_cmd::assert::OutputAssertExt as _;
use serde_json::Value;

use crate::support::{Arithmetic, Folder, arithmetic, file, program, stdout};

/// What the shell is told that fits behind these words.
fn completed(folder: &Folder, words: &[&str]) -> Vec<String> {
    let mut command = folder.convmae(["--", "convmae"].into_iter().chain(words.iter().copied()));
    command.env("_CONVMAE_COMPLETE", "bash").env("_CLAP_IFS", "\n");
    command.env("_CLAP_COMPLETE_INDEX", words.len().to_string());
    stdout(&command.assert().code(0)).lines().map(str::to_owned).collect()
}

#[test]
fn the_version_names_backend_vectors_and_commit() {
    let told = stdout(&Folder::new().succeeds(["--version"]));
    let backend = if arithmetic() == Arithmetic::Cpu { "cpu" } else { "cuda" };
    assert!(told.starts_with(&format!("convmae {}\n", env!("CARGO_PKG_VERSION"))), "{told}");
    assert!(told.contains(&format!("\nbackend: {backend}\nvectors: ")), "{told}");
    let connects = if cfg!(feature = "mpi") { "MPI" } else { "no, built without the feature `mpi`" };
    let processes = told.lines().find_map(|line| line.strip_prefix("several processes: "));
    assert!(processes.is_some_and(|processes| processes.contains(connects)), "{told}");
    let commit = convmae_commit::checked_out(&file(""));
    let registry = match commit {
        Some(commit) => format!("\n  convmae-registry {} ({commit})\n", env!("CARGO_PKG_VERSION")),
        None => format!("\n  convmae-registry {} (of no known commit)\n", env!("CARGO_PKG_VERSION")),
    };
    assert!(told.contains(&registry), "{told}");
    assert!(told.contains("\n  convmae-tests 0.1.0 (of no known commit)\n"), "{told}");
}

/// As `/proc` tells them, not as the standard library does.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[test]
fn the_vectors_are_those_of_the_machine() {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap();
    let flags = cpu.lines().find(|line| line.starts_with("flags")).unwrap();
    let has = |flag: &str| flags.split_whitespace().any(|word| word == flag);
    let vectors = match (["avx512f", "avx512bw", "avx512dq", "avx512vl"].into_iter().all(has), has("avx2")) {
        (true, _) => "AVX-512",
        (false, true) => "AVX2",
        (false, false) => "those of every x86_64",
    };
    let told = stdout(&Folder::new().succeeds(["--version"]));
    assert!(told.contains(&format!("\nvectors: {vectors}\n")), "{told}");
}

#[test]
fn a_run_records_the_packages_of_its_components() {
    let folder = Folder::new();
    folder.succeeds(["run", "tiny.yaml", "--out", "run", "--set", "train.length=1 iteration"]);
    let environment = fs::read_to_string(folder.path("run/environment.json")).unwrap();
    let environment: Value = serde_json::from_str(&environment).unwrap();
    let packages = environment["packages"].as_array().unwrap();
    let of = |name: &str| packages.iter().find(|package| package["name"] == name).unwrap();
    assert_eq!(
        (&of("convmae-tests")["version"], &of("convmae-tests")["commit"]),
        (&"0.1.0".into(), &Value::Null)
    );
    let commit = convmae_commit::checked_out(&file("")).map_or(Value::Null, Value::from);
    assert_eq!(of("convmae-registry")["commit"], commit);
    let page = fs::read_to_string(folder.path("run/report.html")).unwrap();
    assert!(page.contains("convmae-tests 0.1.0 (of no known commit)"), "the report names them");
}

#[test]
fn commands_options_and_components_are_completed() {
    let folder = Folder::new();
    assert_eq!(completed(&folder, &["com"]), ["completions"]);
    assert_eq!(completed(&folder, &["check", "--why"]), ["--why"]);
    assert_eq!(completed(&folder, &["describe", "ConvV"]), ["ConvViT"]);
    assert_eq!(completed(&folder, &["describe", "MeanC"]), ["MeanColorHead"], "of a plug-in");
    assert_eq!(completed(&folder, &["list", "mas"]), ["masker"]);
    assert!(completed(&folder, &["describe", ""]).len() > 60);
}

#[test]
fn recipes_and_runs_are_completed() {
    let folder = Folder::new();
    fs::create_dir(folder.path("tall")).unwrap();
    fs::write(folder.path("tiny.txt"), "").unwrap();
    folder.succeeds(["run", "tiny.yaml", "--out", "tidy", "--set", "train.length=1 iteration"]);
    // A folder may hold recipes: it comes behind what is one.
    assert_eq!(completed(&folder, &["run", "t"]), ["tidy/", "tiny.yaml", "tall/"]);
    assert_eq!(completed(&folder, &["report", "ti"]), ["tidy/"]);
    assert_eq!(completed(&folder, &["sweep", "ti"]), ["tiny.yaml", "tidy/"]);
}

#[test]
fn keys_of_the_recipe_are_completed_with_those_that_have_defaults() {
    let folder = Folder::new();
    let command = ["run", "tiny.yaml", "--set"];
    let keys = |key: &str| completed(&folder, &[&command[..], &[key]].concat());
    assert_eq!(keys("optimizer.l"), ["optimizer.lr=", "optimizer.lr_scaling=", "optimizer.layer_decay="]);
    assert_eq!(keys("data.train.transforms.0.ty"), ["data.train.transforms.0.type="]);
    assert_eq!(keys("model.mask.type=Block"), ["model.mask.type=BlockwiseMasker"]);
    assert_eq!(completed(&folder, &["check", "tiny.yaml", "--why", "image_s"]), ["image_size"]);
    // Of a recipe with mistakes, and of a run, too.
    folder.recipe_with("lr:", "lrr:");
    assert_eq!(completed(&folder, &["run", "recipe.yaml", "--set", "image_s"]), ["image_size="]);
    folder.succeeds(["run", "tiny.yaml", "--out", "run", "--set", "train.length=1 iteration"]);
    assert_eq!(completed(&folder, &["eval", "run", "--set", "image_s"]), ["image_size="]);
    assert_eq!(completed(&folder, &["run", "--set", "image_s"]), [""; 0], "of no recipe nothing is known");
}

#[test]
fn every_shell_gets_a_script_that_calls_the_program() {
    let folder = Folder::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = stdout(&folder.succeeds(["completions", shell]));
        assert!(
            script.contains("_CONVMAE_COMPLETE") && script.contains(program().to_str().unwrap()),
            "{shell}: {script}"
        );
    }
    folder.fails(["completions", "tcsh"], 2, &["invalid value 'tcsh'", "bash", "zsh"]);
}

/// In the shell that nearly every Linux has, by what it calls on Tab.
#[test]
fn bash_completes_by_its_script() {
    let folder = Folder::new();
    let script = stdout(&folder.succeeds(["completions", "bash"]));
    let name = program().file_name().unwrap().to_str().unwrap().to_owned();
    let function = format!("_clap_complete_{}", name.replace('-', "_"));
    let press = format!(
        "{script}\nCOMP_WORDS=({name} run tiny.yaml --set optimizer.b) COMP_CWORD=4 COMP_TYPE=9\n\
         {function} {name} optimizer.b --set; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    );
    let bash = Command::new("bash").args(["-c", &press]).current_dir(folder.root()).assert().code(0);
    assert_eq!(stdout(&bash), "optimizer.betas=\n");
}

#[test]
fn every_command_has_a_page_in_the_manual() {
    let folder = Folder::new();
    folder.succeeds(["man", "share/man1"]);
    let help = stdout(&folder.succeeds(["--help"]));
    let listed =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let commands: Vec<_> = listed
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .map(|line| line.split_whitespace().next().unwrap())
        .filter(|command| *command != "help")
        .collect();
    assert!(commands.len() > 20, "{commands:?}");
    for command in commands {
        let page = fs::read_to_string(folder.path(&format!("share/man1/convmae-{command}.1"))).unwrap();
        assert!(page.contains(".TH") && page.contains(".SH DESCRIPTION"), "{command}: {page}");
    }
    let page = fs::read_to_string(folder.path("share/man1/convmae-check.1")).unwrap();
    assert!(page.contains("\\-\\-memory"), "{page}");
    fs::write(folder.path("file"), "").unwrap();
    folder.fails(["man", "file"], 2, &["cannot write the manual to file"]);
}
