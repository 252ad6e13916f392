//! `convmae list`: the registered components.

use std::fmt::Write as _;

use serde_json::json;

use super::output::{CliError, print};
use crate::component::{Entry, Kind, entries};
use crate::recipe::first_sentence;

/// List the registered components.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this kind.
    #[arg(value_name = "KIND")]
    kind: Option<Kind>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> Result<(), CliError> {
    let entries = entries().into_iter().filter(|entry| args.kind.is_none_or(|kind| entry.kind == kind));
    if args.json {
        let rows: Vec<_> = entries
            .map(|entry| json!({ "kind": entry.kind.name(), "type": entry.name, "summary": summary(entry) }))
            .collect();
        return print(&format!("{:#}", json!(rows)));
    }
    let mut text = String::new();
    let mut last = None;
    for entry in entries {
        if last != Some(entry.kind) {
            let _ = writeln!(text, "{}{}", if last.is_none() { "" } else { "\n" }, entry.kind);
            last = Some(entry.kind);
        }
        let _ = writeln!(text, "  {:<24} {}", entry.name, summary(entry));
    }
    print(&text)
}

/// The first sentence of a component's documentation.
fn summary(entry: &Entry) -> String {
    let schema = (entry.schema)();
    let text = schema.get("description").and_then(serde_json::Value::as_str).unwrap_or_default();
    first_sentence(text)
}
