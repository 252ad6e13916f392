//! `convmae check`: validates a recipe; shapes, parameters and multiply-adds of its model.

use clap::ValueEnum;

use super::output::{CliError, print};
use super::recipe_args::RecipeArgs;
use crate::engine::{SplitReport, inspect_data};
use crate::graph::{self, catalog, check, dot, mermaid, warn, warnings};
use crate::recipe::{Recipe, load};
use crate::terminal::indented_json;

/// Check a recipe and print its graph with shapes, parameters and multiply-adds. Nothing is built or read,
/// unless `--data` says so.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    recipe: RecipeArgs,
    /// Print the table as JSON.
    #[arg(long, conflicts_with_all = ["why", "graph"])]
    json: bool,
    /// Open the datasets, too: tell their samples, their classes, what they pass over, and what looks wrong.
    #[arg(long, conflicts_with_all = ["why", "graph"])]
    data: bool,
    /// Tell which layers set a value: file and line, environment variable, or argument.
    #[arg(long, value_name = "KEY", conflicts_with = "graph")]
    why: Option<String>,
    /// Print the graph as a drawing.
    #[arg(long, value_name = "FORMAT")]
    graph: Option<Drawing>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Drawing {
    /// A Mermaid flowchart.
    Mermaid,
    /// The language of Graphviz.
    Dot,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> Result<(), CliError> {
    let recipe = load(&args.recipe.sources(), &catalog())?;
    if let Some(key) = &args.why {
        return why(&recipe, key);
    }
    let checked = check(&recipe)?;
    warn(&recipe, warnings(&checked));
    let summary = checked.summary.clone();
    let data = if args.data { Some(inspect_data(&recipe, checked)?) } else { None };
    match args.graph {
        Some(Drawing::Mermaid) => print(&mermaid(&summary)),
        Some(Drawing::Dot) => print(&dot(&summary)),
        None if args.json => print(&json(&summary, data.as_deref())),
        None => {
            let data: Vec<_> = data.iter().flatten().map(|split| format!("\n{split}")).collect();
            print(&format!("{}\n{}", summary.to_string().trim_end(), data.concat()))
        }
    }
}

fn json(summary: &graph::Summary, data: Option<&[SplitReport]>) -> String {
    // Plain data with string keys always serialises.
    let mut json = serde_json::to_value(summary).unwrap_or_default();
    if let Some(data) = data {
        json["data"] = serde_json::json!(data);
    }
    indented_json(&json)
}

fn why(recipe: &Recipe, key: &str) -> Result<(), CliError> {
    let Some(origins) = recipe.why(key) else {
        let message = format!("no layer sets `{key}`, and it has no default");
        let help = Some(format!(
            "keys are dotted paths such as `optimizer.lr`; list items go by index. Recipe: {}",
            recipe.path().display()
        ));
        return Err(CliError::Usage { message, help });
    };
    let lines: Vec<_> = origins
        .iter()
        .rev()
        .enumerate()
        .map(|(at, origin)| if at == 0 { origin.to_string() } else { format!("{origin} (overridden)") })
        .collect();
    print(&lines.join("\n"))
}
