//! `convmae describe`: the fields of a component.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::complete;
use super::output::{CliError, print};
use crate::component::{Entry, entries, entry};
use crate::graph::block_schema;
use crate::reference::{Field, Page, fields, pages};

/// Describe a component: what it does, its fields, their types and defaults.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The name of the component, as in `type:`.
    #[arg(value_name = "TYPE", required_unless_present = "markdown", add = complete::components())]
    component: Option<String>,
    /// Print its JSON schema.
    #[arg(long)]
    json: bool,
    /// Write the reference of all components and of recipes into a folder, one Markdown page a kind.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["component", "json"])]
    markdown: Option<PathBuf>,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> Result<(), CliError> {
    if let Some(folder) = &args.markdown {
        return write_reference(folder);
    }
    let name = args.component.as_deref().unwrap_or_default();
    let Some(entry) = entry(name) else { return Err(unknown(name)) };
    let schema = block_schema(entry);
    if args.json {
        return print(&format!("{schema:#}"));
    }
    print(&describe(entry, &schema))
}

fn unknown(name: &str) -> CliError {
    let nearest = entries()
        .into_iter()
        .map(|entry| (strsim::jaro_winkler(&entry.name.to_lowercase(), &name.to_lowercase()), entry.name))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(similarity, _)| *similarity > 0.7);
    let help = match nearest {
        Some((_, nearest)) => format!("did you mean `{nearest}`?"),
        None => "`convmae list` names all components".to_owned(),
    };
    CliError::Usage { message: format!("there is no component `{name}`"), help: Some(help) }
}

fn describe(entry: &Entry, schema: &Value) -> String {
    let mut text = format!("{} ({})\n", entry.name, entry.kind);
    if let Some(description) = schema["description"].as_str() {
        let _ = write!(text, "\n{description}\n");
    }
    for Field { name, kind, presence, about, choices } in fields(schema, schema) {
        let _ = write!(text, "\n  {name}: {kind} ({presence})\n");
        let choices = choices.iter().filter(|choice| !choice.about.is_empty());
        let choices = choices.map(|choice| format!("{}: {}", choice.word, choice.about));
        for line in about.lines().map(str::to_owned).chain(choices) {
            let _ = writeln!(text, "      {line}");
        }
    }
    text
}

/// Writes every page of the reference into a folder.
fn write_reference(folder: &Path) -> Result<(), CliError> {
    let failed = |error: std::io::Error| CliError::Usage {
        message: format!("cannot write the reference to {}: {error}", folder.display()),
        help: None,
    };
    std::fs::create_dir_all(folder).map_err(failed)?;
    for Page { name, text } in pages() {
        std::fs::write(folder.join(name), text).map_err(failed)?;
    }
    Ok(())
}
