//! Components of a third party are components like any other.

use serde_json::Value;

use convmae_framework::weights::read_safetensors;

use crate::support::{Folder, stdout};

const COMPONENTS: [(&str, &str); 6] = [
    ("masker", "CheckerboardMasker"),
    ("neck", "ProjectionNeck"),
    ("neck", "WindowAttentionNeck"),
    ("head", "MeanColorHead"),
    ("head", "PatchVoteHead"),
    ("instance_head", "MeanShapeHead"),
];

#[test]
fn they_are_listed_with_those_of_the_registry() {
    let listed: Value = serde_json::from_str(&stdout(&Folder::new().succeeds(["list", "--json"]))).unwrap();
    let has = |kind: &str, name: &str| {
        listed.as_array().unwrap().iter().any(|row| row["kind"] == kind && row["type"] == name)
    };
    assert!(COMPONENTS.iter().all(|(kind, name)| has(kind, name)), "{listed}");
    assert!(has("backbone", "ConvViT"), "{listed}");
}

#[test]
fn they_are_described_and_in_the_schema() {
    let folder = Folder::new();
    let schema: Value = serde_json::from_str(&stdout(&folder.succeeds(["schema"]))).unwrap();
    for (kind, name) in COMPONENTS {
        let text = stdout(&folder.succeeds(["describe", name]));
        assert!(text.starts_with(&format!("{name} ({kind})\n")), "{text}");
        assert_eq!(schema["$defs"][name]["properties"]["type"]["const"], name);
    }
    let text = stdout(&folder.succeeds(["describe", "CheckerboardMasker"]));
    assert!(text.contains("random_half: boolean (default true)\n      Whether each image draws"), "{text}");
}

const GRAPH: &str = "  mask: { type: CheckerboardMasker }
  backbone: { type: ConvViT, patch_size: [2, 2, 2], embed_dim: [8, 12, 16], depth: [1, 1, 1], num_heads: 4 }
  neck: { type: ProjectionNeck, channels: 12 }
  decoder: { type: MaeDecoder, from: neck.s3, embed_dim: 16, depth: 1, num_heads: 4 }
  color: { type: MeanColorHead, from: backbone.s3, loss_weight: 0.5 }
";

fn recipe() -> Folder {
    let folder = Folder::new();
    let tiny = std::fs::read_to_string(folder.path("tiny.yaml")).unwrap();
    let (before, rest) = tiny.split_once("model:\n").unwrap();
    let (_, after) = rest.split_once("\noptimizer:").unwrap();
    std::fs::write(folder.path("recipe.yaml"), format!("{before}model:\n{GRAPH}\noptimizer:{after}"))
        .unwrap();
    folder
}

#[test]
fn they_are_checked_with_shapes_and_costs() {
    let json = stdout(&recipe().succeeds(["check", "recipe.yaml", "--json"]));
    let checked: Value = serde_json::from_str(&json).unwrap();
    let node =
        |name: &str| checked["nodes"].as_array().unwrap().iter().find(|row| row["node"] == name).unwrap();
    assert_eq!(node("mask")["outputs"][0], "8 of 16 tokens");
    assert_eq!(node("neck")["outputs"][2], "s3 [8, 12]");
    assert_eq!(node("neck")["parameters"], 12 * (8 + 12 + 16) + 3 * 12);
    assert_eq!((&node("color")["parameters"], &node("color")["macs"]["computed"]), (&51.into(), &384.into()));
}

#[test]
fn their_mistakes_are_reported_at_their_lines() {
    let folder = recipe();
    let text = std::fs::read_to_string(folder.path("recipe.yaml")).unwrap();
    let text = text
        .replace("CheckerboardMasker }", "CheckerboardMasker, random_hlaf: no }")
        .replace("channels: 12", "channels: 0");
    std::fs::write(folder.path("recipe.yaml"), text).unwrap();
    let words = [
        "model.mask.random_hlaf: unknown key",
        "did you mean `random_half`?",
        "model.neck.channels: 0 is out of range: it must be at least 1",
    ];
    folder.fails(["check", "recipe.yaml"], 2, &words);
    folder.fails(
        ["check", "tiny.yaml", "--set", "image_size=24", "--set", "model.mask.type=CheckerboardMasker"],
        2,
        &["a checkerboard of 3 x 3 has no equal halves", "an even number of patches"],
    );
}

#[test]
fn they_are_trained_and_evaluated() {
    let folder = recipe();
    folder.succeeds(["run", "recipe.yaml", "--out", "run"]);
    let summary = std::fs::read_to_string(folder.path("run/summary.json")).unwrap();
    let summary: Value = serde_json::from_str(&summary).unwrap();
    for name in ["val.decoder.reconstruction", "val.color.mean_color", "train.color.mean_color"] {
        assert!(summary[name].as_f64().is_some_and(f64::is_finite), "{name}: {summary}");
    }
    let [total, decoder, color] = ["val.loss", "val.decoder.reconstruction", "val.color.mean_color"]
        .map(|name| summary[name].as_f64().unwrap());
    assert!((total - (decoder + 0.5 * color)).abs() < 1e-6 * total, "{summary}");
}

#[test]
fn they_are_varied_by_a_sweep() {
    let folder = recipe();
    let sweep = "name: colors\nrecipe: recipe.yaml\nset: { train.length: 2 iterations }\nsweep:\n  grid:
    model.mask.type: [CheckerboardMasker, BlockwiseMasker]
    model.color.loss_weight: [0.5, 1.0]\n";
    std::fs::write(folder.path("sweep.yaml"), sweep).unwrap();
    folder.succeeds(["sweep", "sweep.yaml"]);
    let listed = stdout(&folder.succeeds(["runs", "--format", "json"]));
    let runs: Value = serde_json::from_str(&listed).unwrap();
    let runs = runs.as_array().unwrap();
    assert_eq!(runs.len(), 4, "{listed}");
    for run in runs {
        assert_eq!(run["status"], "finished", "{listed}");
        assert!(run["metrics.color.mean_color"].as_f64().is_some_and(f64::is_finite), "{listed}");
    }
}

#[test]
fn a_block_of_their_own_is_trained_and_checked() {
    let folder = Folder::new();
    let tiny = std::fs::read_to_string(folder.path("tiny.yaml")).unwrap();
    let (before, rest) = tiny.split_once("model:\n").unwrap();
    let (_, after) = rest.split_once("\noptimizer:").unwrap();
    let graph = "  backbone: { type: ConvViT, patch_size: [2, 2, 2], embed_dim: [8, 12, 16], depth: [1, 1, 1], num_heads: 4 }
  neck: { type: WindowAttentionNeck, num_heads: 4, window_size: 2 }
  color: { type: MeanColorHead, from: neck.s3 }
";
    std::fs::write(folder.path("windows.yaml"), format!("{before}model:\n{graph}\noptimizer:{after}"))
        .unwrap();
    folder.succeeds(["run", "windows.yaml", "--out", "run"]);
    let weights = read_safetensors(&folder.path("run/model.safetensors")).unwrap().tensors;
    assert_eq!(weights.get("block.attn.qkv.weight").unwrap().shape, [48, 16]);
    let words = ["model.neck.window_size", "windows of 3 x 3 do not tile 4 x 4 tokens"];
    folder.fails(["check", "windows.yaml", "--set", "model.neck.window_size=3"], 2, &words);
}
