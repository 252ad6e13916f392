//! `convmae check`: validates a recipe; shapes, parameters and multiply-adds of its model.

use std::path::PathBuf;
use std::rc::Rc;

use clap::ValueEnum;

use super::complete;
use super::output::{CliError, print};
use super::recipe_args::RecipeArgs;
use crate::distributed::SingleProcess;
use crate::engine::{self, BenchOptions, Inspection, Look, Outlook, inspect, plot_schedule};
use crate::graph::{self, Checked, catalog, check, dot, mermaid, warn, warnings};
use crate::recipe::{Recipe, list, read};
use crate::terminal::{indented_json, say};

/// Check a recipe and print its graph with shapes, parameters and multiply-adds, and what training it takes: steps, learning
/// rates, with `--memory` the memory. Nothing is built or read, unless `--data` says so.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    recipe: RecipeArgs,
    /// Tell the memory of a training step. Goes through steps of two and of three images without their products, so it takes the
    /// memory of three images, and seconds where they are large.
    #[arg(long, conflicts_with_all = ["why", "graph"])]
    memory: bool,
    /// Tell what every one of so many processes does: its batches, what it sends, and which results are to be had.
    #[arg(long, value_name = "NUMBER", conflicts_with_all = ["why", "graph"])]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    processes: Option<u16>,
    /// Time a few steps, as `bench` does, to tell how long the training will take. What was timed before on this machine is
    /// told without it.
    #[arg(long, conflicts_with_all = ["why", "graph"])]
    time: bool,
    /// Draw the learning rate over the training into a file; opens the training set, which tells how many steps an epoch has.
    #[arg(long, value_name = "FILE.svg", conflicts_with = "why")]
    plot: Option<PathBuf>,
    /// Print the table as JSON.
    #[arg(long, conflicts_with_all = ["why", "graph"])]
    json: bool,
    /// Open the datasets, too, and the weights that the recipe starts from: tell their samples, their classes, what they
    /// pass over, which parameters the weights have, and what looks wrong.
    #[arg(long, conflicts_with_all = ["why", "graph"])]
    data: bool,
    /// Decode every sample of the datasets, and name those that cannot be.
    #[arg(long, requires = "data")]
    decode: bool,
    /// Tell which layers set a value: file and line, environment variable, or argument.
    #[arg(long, value_name = "KEY", conflicts_with = "graph", add = complete::keys())]
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
    let (sources, _) = args.recipe.sources()?;
    let recipe = read(&sources, &catalog())?;
    if let Some(key) = &args.why {
        return why(&recipe, key);
    }
    let look = args.data.then_some(Look { samples: args.decode, weights: true });
    let (inspection, checked) = look_at(&recipe, look)?;
    if let Some(path) = &args.plot {
        plot_schedule(&recipe, &checked, path)?;
    }
    if args.time {
        engine::bench(
            &BenchOptions { sources, steps: 3, warmup: 1, forward: false },
            Rc::new(SingleProcess),
        )?;
    }
    let data = inspection.as_ref().map(|inspection| inspection.data.as_slice());
    let outlook = || Outlook::of(&recipe, &checked, data, args.memory, args.processes.map(usize::from));
    let summary = &checked.summary;
    match args.graph {
        Some(Drawing::Mermaid) => print(&mermaid(summary)),
        Some(Drawing::Dot) => print(&dot(summary)),
        None if args.json => print(&json(summary, &outlook()?, inspection.as_ref())),
        None => print(&text(&recipe, summary, &outlook()?, inspection.as_ref())),
    }
}

/// Opens the data and the weights of a recipe, prints what they and the model are, as `check --data` does.
pub(super) fn tell_all(recipe: &Recipe) -> Result<(), CliError> {
    let (inspection, checked) = look_at(recipe, Some(Look { samples: false, weights: true }))?;
    let data = inspection.as_ref().map(|inspection| inspection.data.as_slice());
    let outlook = Outlook::of(recipe, &checked, data, false, None)?;
    print(&text(recipe, &checked.summary, &outlook, inspection.as_ref()))
}

fn look_at(recipe: &Recipe, look: Option<Look>) -> Result<(Option<Inspection>, Checked), CliError> {
    let inspection = look.map(|look| inspect(recipe, look)).transpose()?;
    let checked = check(recipe).inspect_err(|_| say(not_looked_at(recipe)))?;
    warn(recipe, warnings(&checked));
    Ok((inspection, checked))
}

fn text(
    recipe: &Recipe,
    summary: &graph::Summary,
    outlook: &Outlook,
    inspection: Option<&Inspection>,
) -> String {
    let looked_at = match inspection {
        Some(Inspection { data, weights }) => {
            let data = data.iter().map(ToString::to_string);
            data.chain(weights.clone()).collect::<Vec<_>>().join("\n")
        }
        None => not_looked_at(recipe),
    };
    format!("{}\n\n{outlook}\n\n{looked_at}", summary.to_string().trim_end())
}

/// What a check without `--data` leaves out.
fn not_looked_at(recipe: &Recipe) -> String {
    let keys = ["data.train.dataset", "data.val.dataset", "init_from"].into_iter();
    let stated = keys.filter(|key| recipe.get(key).is_some_and(|value| !value.is_null()));
    format!("not opened: {}; `--data` opens them, too", list(stated))
}

fn json(summary: &graph::Summary, outlook: &Outlook, inspection: Option<&Inspection>) -> String {
    // Plain data with string keys always serialises.
    let mut json = serde_json::to_value(summary).unwrap_or_default();
    json["training"] = serde_json::json!(outlook);
    if let Some(Inspection { data, weights }) = inspection {
        json["data"] = serde_json::json!(data);
        json["weights"] = serde_json::json!(weights);
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
