//! What a shell is told that fits where a command is being written.

use std::ffi::OsStr;
use std::path::Path;

use clap::CommandFactory;
use clap_complete::CompleteEnv;
use clap_complete::engine::{ArgValueCandidates, ArgValueCompleter, CompletionCandidate, PathCompleter};
use serde_json::Value;

use crate::component::entries;
use crate::graph::catalog;
use crate::recipe::{self, Sources, read};
use crate::report::RunDir;

/// The variable by which a shell asks for what fits, instead of running a command.
pub const VARIABLE: &str = "_CONVMAE_COMPLETE";

/// Answers a shell that asks, and ends the program.
pub fn answer<C: CommandFactory>() {
    CompleteEnv::with_factory(C::command).var(VARIABLE).complete();
}

/// Recipes and run directories.
pub fn recipe() -> ArgValueCompleter {
    ArgValueCompleter::new(PathCompleter::any().filter(|path| is_yaml(path) || RunDir::inspect(path).is_ok()))
}

/// Files in YAML: sweeps, tables.
pub fn yaml() -> ArgValueCompleter {
    ArgValueCompleter::new(PathCompleter::any().filter(is_yaml))
}

/// Run directories, and those above them.
pub fn runs() -> ArgValueCompleter {
    ArgValueCompleter::new(PathCompleter::dir())
}

/// The registered components.
pub fn components() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let named = entries().into_iter().map(|entry| (entry, (entry.schema)()));
        named
            .map(|(entry, schema)| {
                let about = schema.get("description").and_then(Value::as_str).unwrap_or_default();
                candidate(entry.name, about).tag(Some(entry.kind.name().into()))
            })
            .collect()
    })
}

/// The keys of the recipe that stands in the command.
pub fn keys() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| of_keys(current, ""))
}

/// The keys of the recipe that stands in the command, each with `=` behind it, and the components that a `type` may be.
pub fn assignments() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| match current.to_string_lossy().split_once('=') {
        Some((key, value)) if key.rsplit('.').next() == Some("type") => {
            let named = entries().into_iter().filter(|entry| entry.name.starts_with(value));
            named.map(|entry| format!("{key}={}", entry.name).into()).collect()
        }
        Some(_) => Vec::new(),
        None => of_keys(current, "="),
    })
}

fn of_keys(current: &OsStr, suffix: &str) -> Vec<CompletionCandidate> {
    let current = current.to_string_lossy();
    // The command stands behind `--`; what follows its name may be a recipe.
    let mut words = std::env::args_os().skip_while(|word| word != "--").skip(3);
    let Some(recipe) = words.find_map(|word| recipe_at(Path::new(&word))) else { return Vec::new() };
    let mut keys = Vec::new();
    leaves(recipe.value(), "", &mut keys);
    keys.retain(|(key, _)| key.starts_with(&*current));
    keys.into_iter().map(|(key, value)| candidate(&format!("{key}{suffix}"), &value.to_string())).collect()
}

/// The recipe, with or without mistakes, that a word of a command names.
fn recipe_at(word: &Path) -> Option<recipe::Recipe> {
    let path = match RunDir::inspect(word) {
        Ok(run) => run.recipe(),
        Err(_) if is_yaml(word) => word.to_owned(),
        Err(_) => return None,
    };
    read(&Sources::from_env(path), &catalog()).ok()
}

/// The keys that hold no keys themselves, with their values; items of lists go by index.
fn leaves<'v>(value: &'v Value, key: &str, found: &mut Vec<(String, &'v Value)>) {
    let below = |name: &str| if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") };
    match value {
        Value::Object(map) if !map.is_empty() => {
            map.iter().for_each(|(name, value)| leaves(value, &below(name), found));
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            items.iter().enumerate().for_each(|(at, item)| leaves(item, &below(&at.to_string()), found));
        }
        _ => found.push((key.to_owned(), value)),
    }
}

fn is_yaml(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") && path.is_file()
}

fn candidate(value: &str, about: &str) -> CompletionCandidate {
    CompletionCandidate::new(value).help(Some(recipe::first_sentence(about).into()))
}
