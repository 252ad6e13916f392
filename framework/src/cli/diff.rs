//! `convmae diff`: what two runs or recipes differ in.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::file_kind::FileKind;
use super::output::{CliError, print};
use crate::columns::aligned;
use crate::engine::EngineError;
use crate::experiment::changes_results;
use crate::graph::catalog;
use crate::recipe::{Sources, differences, load, lock};
use crate::report::{Environment, ReportError, RunDir, Summary, similar_run};
use crate::runs::significant;
use crate::terminal::{indented_json, visible};

/// Compare two runs, two recipes, or one with the other: the keys of their resolved recipes, and of runs the
/// figures and what ran them.
///
/// Keys that change no results stand apart.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A run directory or a recipe.
    #[arg(value_name = "A")]
    one: PathBuf,
    /// Another one.
    #[arg(value_name = "B")]
    other: PathBuf,
    /// Print JSON, every digit.
    #[arg(long)]
    json: bool,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> Result<(), CliError> {
    let (one, other) = (Side::read(&args.one)?, Side::read(&args.other)?);
    let comparison = Comparison::of(&one, &other);
    if args.json {
        return print(&indented_json(&comparison));
    }
    let names = [&args.one, &args.other].map(|path| visible(&path.display().to_string()));
    print(&comparison.text(names))
}

/// A run or a recipe.
struct Side {
    recipe: Value,
    /// Of a run.
    figures: Map<String, Value>,
    /// Of a run that has recorded it.
    environment: Vec<(&'static str, String)>,
}

impl Side {
    fn read(path: &Path) -> Result<Self, CliError> {
        let failed = |error: ReportError| CliError::from(EngineError::from(error));
        if let Ok(dir) = RunDir::inspect(path) {
            let text = dir.read_recipe().map_err(failed)?;
            let recipe = lock::parse(&text)
                .map_err(|error| failed(ReportError::format(&dir.recipe(), "resolved recipe", error)))?;
            let summary = dir.summary().is_file().then(|| Summary::read(&dir.summary())).transpose();
            let environment =
                dir.environment().is_file().then(|| Environment::read(&dir.environment())).transpose();
            return Ok(Self {
                recipe,
                figures: figures(&summary.map_err(failed)?.unwrap_or_default()),
                environment: environment.map_err(failed)?.map(|of| of.rows()).unwrap_or_default(),
            });
        }
        if !path.is_file() {
            let message = format!("{}: there is no such run or recipe", path.display());
            return Err(CliError::Usage { message, help: similar_run(path) });
        }
        FileKind::Recipe.expect(path)?;
        let recipe = load(&Sources::from_env(path), &catalog())?;
        Ok(Self { recipe: recipe.value().clone(), figures: Map::new(), environment: Vec::new() })
    }
}

/// What runs are compared by, under the names of `convmae runs`.
fn figures(summary: &Summary) -> Map<String, Value> {
    // What these say is in the recipe, or nothing that a person compares.
    const LEFT_OUT: [&str; 5] = ["name", "seed", "recipe_digest", "init_from_digest", "git_commit"];
    let kept = summary.iter().filter(|(name, _)| !LEFT_OUT.contains(name));
    let named = kept.map(|(name, value)| match name.strip_prefix("val.") {
        Some(metric) => (format!("metrics.{metric}"), value.clone()),
        None => (name.to_owned(), value.clone()),
    });
    named.collect()
}

/// Names with their two values, null where there is none.
type Rows = Vec<(String, [Value; 2])>;

/// What two runs or recipes differ in.
#[derive(Debug, Serialize)]
struct Comparison {
    /// Keys of the recipes that change results.
    #[serde(serialize_with = "mapping")]
    recipe: Rows,
    /// Keys that do not: words, speed, limits.
    #[serde(serialize_with = "mapping")]
    without_results: Rows,
    /// Figures of both.
    #[serde(serialize_with = "mapping")]
    figures: Rows,
    /// What ran them.
    #[serde(serialize_with = "mapping")]
    environment: Rows,
}

/// By name, a list of two values.
fn mapping<S: serde::Serializer>(rows: &Rows, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(rows.iter().map(|(name, values)| (name, values)))
}

impl Comparison {
    fn of(one: &Side, other: &Side) -> Self {
        let value = |value: Option<&Value>| value.cloned().unwrap_or(json!("unset"));
        let found = differences(&[&one.recipe, &other.recipe]);
        let rows = found.into_iter().map(|of| (of.key, [value(of.values[0]), value(of.values[1])]));
        let (recipe, without_results) = rows.partition(|(key, _)| changes_results(key));
        let mut figures: Rows = Vec::new();
        let mut environment: Rows = Vec::new();
        if !one.figures.is_empty() && !other.figures.is_empty() {
            let of = |side: &Side, name: &str| side.figures.get(name).cloned().unwrap_or(Value::Null);
            let mut names: Vec<&String> = one.figures.keys().chain(other.figures.keys()).collect();
            // Metrics first, and each once.
            names.sort_by_key(|name| (!name.starts_with("metrics."), name.as_str()));
            names.dedup();
            figures.extend(names.into_iter().map(|name| (name.clone(), [of(one, name), of(other, name)])));
            figures.retain(|(_, [one, other])| one != other);
        }
        let of = |side: &Side, label: &str| {
            side.environment
                .iter()
                .find(|(known, _)| *known == label)
                .map_or(Value::Null, |row| row.1.clone().into())
        };
        for (label, _) in &one.environment {
            environment.push(((*label).to_owned(), [of(one, label), of(other, label)]));
        }
        environment.retain(|(label, [one, other])| one != other && !other.is_null() && label != "Started");
        Self { recipe, without_results, figures, environment }
    }

    fn text(&self, [one, other]: [String; 2]) -> String {
        let mut blocks = Vec::new();
        if self.recipe.is_empty() {
            blocks.push("The recipes are the same in all that changes results.".to_owned());
        }
        for (title, rows) in [
            ("recipe", &self.recipe),
            ("recipe, without results", &self.without_results),
            ("figures", &self.figures),
            ("environment", &self.environment),
        ] {
            if rows.is_empty() {
                continue;
            }
            let heading = vec![title.to_owned(), one.clone(), other.clone()];
            let row = |(name, values): &(String, [Value; 2])| {
                let [before, after] = values;
                let mut row = vec![visible(name), short(before), short(after)];
                row.extend(difference(before, after).filter(|_| title == "figures"));
                row
            };
            let table: Vec<Vec<String>> = std::iter::once(heading).chain(rows.iter().map(row)).collect();
            blocks.push(aligned(&table, |column| column == 3).join("\n"));
        }
        blocks.join("\n\n")
    }
}

/// A value in a line; a text without quotes.
fn short(value: &Value) -> String {
    match value {
        Value::Null => "–".to_owned(),
        Value::String(text) => visible(text),
        Value::Number(number) if number.is_f64() => {
            number.as_f64().map_or_else(|| number.to_string(), |number| significant(number, 5))
        }
        other => visible(&other.to_string()),
    }
}

/// By how much a figure is larger in the second.
fn difference(one: &Value, other: &Value) -> Option<String> {
    let by = other.as_f64()? - one.as_f64()?;
    let sign = if by > 0.0 { "+" } else { "" };
    Some(format!("{sign}{}", significant(by, 3)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(recipe: Value, figures: Value) -> Side {
        let figures = if let Value::Object(map) = figures { map } else { Map::new() };
        Side {
            recipe,
            figures,
            environment: vec![("Started", "now".to_owned()), ("Threads", "2".to_owned())],
        }
    }

    #[test]
    fn what_changes_results_stands_apart_and_figures_have_their_difference() {
        let one = side(
            json!({"name": "a", "lr": 1e-3, "sizes": [1, 2], "same": 1}),
            json!({"step": 4, "metrics.top1": 80.25, "status": "finished"}),
        );
        let mut other = side(
            json!({"name": "b\u{1b}", "lr": 2e-3, "sizes": [1, 3], "same": 1, "ema": {"decay": 0.9}}),
            json!({"step": 4, "metrics.top1": 80.5, "metrics.loss": 1.0, "status": "failed"}),
        );
        other.environment[1].1 = "4".to_owned();
        let comparison = Comparison::of(&one, &other);
        let text = comparison.text(["runs/a".to_owned(), "runs/b".to_owned()]);
        let expected = "\
recipe   runs/a  runs/b
ema      unset   {\"decay\":0.9}
lr       0.001   0.002
sizes.1  2       3

recipe, without results  runs/a  runs/b
name                     a       b\\u{1b}

figures       runs/a    runs/b
metrics.loss  –         1
metrics.top1  80.25     80.5    +0.25
status        finished  failed

environment  runs/a  runs/b
Threads      2       4";
        assert_eq!(text, expected);
        let json = serde_json::to_value(&comparison).unwrap_or_default();
        assert_eq!(json["figures"]["metrics.top1"], json!([80.25, 80.5]));
    }

    #[test]
    fn what_is_the_same_is_said() {
        let one = side(json!({"lr": 1}), json!({"step": 1}));
        let text = Comparison::of(&one, &one).text([String::new(), String::new()]);
        assert_eq!(text, "The recipes are the same in all that changes results.");
    }
}
