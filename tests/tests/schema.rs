//! `convmae schema` by a validator of others: what may be said is accepted, mistakes are not.

use std::fs;
use std::path::{Path, PathBuf};

use jsonschema::Validator;
use serde_json::Value;

use crate::support::{Folder, file, recipe, stdout};

fn schema() -> Value {
    serde_json::from_str(&stdout(&Folder::new().succeeds(["schema"]))).unwrap()
}

fn validator(schema: &Value) -> Validator {
    jsonschema::draft202012::new(schema).unwrap()
}

/// As YAML 1.2 reads it, which editors do, too.
fn value(text: &str) -> Option<Value> {
    serde_yaml::from_str(text).ok()
}

/// What the validator has against a recipe.
fn faults(validator: &Validator, recipe: &Value) -> Vec<String> {
    validator.iter_errors(recipe).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

/// The files below a folder with this extension.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = entries
        .flat_map(|path| if path.is_dir() { files(&path, extension) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    found.sort();
    found
}

#[test]
fn every_shipped_recipe_is_accepted() {
    let validator = validator(&schema());
    let is_recipe = |path: &PathBuf| {
        !["ablations", "tables"].iter().any(|other| path.parent().unwrap().ends_with(other))
            && !path.ends_with("recipes/story.yaml")
    };
    let mut accepted = [0, 0, 0];
    for path in files(&recipe(""), "yaml").into_iter().filter(is_recipe) {
        let recipe = value(&fs::read_to_string(&path).unwrap()).unwrap();
        let found = faults(&validator, &recipe);
        assert!(found.is_empty(), "{}: {found:#?}", path.display());
        let kind = match (&recipe["extends"], &recipe["name"]) {
            (Value::Null, Value::Null) => 1,
            (Value::Null, _) => 2,
            _ => 0,
        };
        accepted[kind] += 1;
    }
    assert!(accepted.iter().all(|&count| count >= 3), "extending, to be extended, whole: {accepted:?}");
}

/// All blocks of YAML with nothing but keys of recipes, also those that show a part of one.
#[test]
fn every_recipe_of_the_docs_is_accepted() {
    let schema = schema();
    let validator = validator(&schema);
    let keys = schema["$defs"]["recipe"]["properties"].as_object().unwrap();
    let (mut accepted, mut refused) = (0, Vec::new());
    for page in files(&file("docs/src"), "md").into_iter().chain([file("README.md")]) {
        let text = fs::read_to_string(&page).unwrap();
        let page = page.file_name().unwrap().to_string_lossy().into_owned();
        for block in text.split("\n```yaml\n").skip(1) {
            let block = &block[..block.find("\n```").unwrap()];
            let Some(recipe) = value(block) else { continue };
            let Some(stated) = recipe.as_object() else { continue };
            if !stated.keys().all(|key| keys.contains_key(key)) {
                continue;
            }
            match faults(&validator, &recipe).as_slice() {
                [] => accepted += 1,
                found => refused.push(format!("{page}\n{block}\n{found:#?}")),
            }
        }
    }
    assert!(accepted >= 10, "{accepted}");
    assert!(refused.len() == 1 && refused[0].contains("name: mistakes"), "{}", refused.join("\n"));
}

/// Each by a change of one thing, so that nothing else can be what is refused.
#[test]
fn mistakes_are_refused() {
    let validator = validator(&schema());
    let whole = fs::read_to_string(recipe("quickstart.yaml")).unwrap();
    let extending = "extends: quickstart.yaml\nname: other\nmodel:\n  mask: { mask_ratio: 0.85 }\n  decoder: { type: MaeDecoder, depth: 3 }\n\
                     data:\n  train: { transforms: [{ type: Normalize }] }\ntrain: { length: 2 epochs }\n";
    let mistakes = [
        (&*whole, "type: ConvViT", "type: ConvVit"),
        (&whole, "type: ConvViT", "kind: ConvViT"),
        (&whole, "type: BlockwiseMasker, ", ""),
        (&whole, "type: AdamW", "type: WarmupCosine"),
        (&whole, "num_heads: 4", "num_heads: many"),
        (&whole, "num_heads: 4", "num_heds: 4"),
        (&whole, "mask_ratio: 0.75", "mask_ratio: 1.75"),
        (&whole, "    batch_size: 32\n", ""),
        (&whole, "optimizer:", "optimiser:"),
        (&whole, "epochs", "epocs"),
        (extending, "mask_ratio", "mask_ration"),
        (extending, "0.85", "most"),
        (extending, "0.85", "1.85"),
        (extending, "depth: 3", "mask_ratio: 0.85"),
        (extending, "MaeDecoder", "MaeDecodr"),
        (extending, "{ type: Normalize }", "{}"),
        (extending, "{ type: Normalize }", "{ type: Normalise }"),
        (extending, "train: { length", "train: { lenght"),
        (extending, "2 epochs", "2"),
        (extending, "name: other", "name: another other"),
    ];
    for recipe in [&whole, extending] {
        assert_eq!(faults(&validator, &value(recipe).unwrap()), Vec::<String>::new());
    }
    for (recipe, right, wrong) in mistakes {
        assert!(recipe.contains(right), "{right}");
        let recipe = value(&recipe.replacen(right, wrong, 1)).unwrap();
        assert!(!validator.is_valid(&recipe), "{wrong} in place of {right} is accepted");
    }
}
