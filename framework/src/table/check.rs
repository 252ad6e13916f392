//! Validation of a table file, beyond its schema.

use std::collections::{BTreeSet, HashSet};

use super::spec::{ColumnSpec, RowSpec, TableSpec};
use crate::recipe::{Problem, list, nearest};

/// What a table can show, besides `metrics.*`, `train.*`, `recipe.*`, `difference.*` and `paired.*`.
const FIGURES: [&str; 15] = [
    "label",
    "parameters",
    "gmacs",
    "hours",
    "run",
    "name",
    "status",
    "seed",
    "step",
    "epoch",
    "seconds",
    "best",
    "corrupt_samples",
    "digest",
    "git_commit",
];
const GROUPS: [&str; 3] = ["metrics.", "train.", "recipe."];

/// Everything wrong with a table.
pub fn problems(table: &TableSpec) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut seen = HashSet::new();
    for (at, column) in table.columns.iter().enumerate() {
        let within = |problem: Problem| problem.within(&format!("columns.{at}"));
        if !seen.insert(&column.name) {
            problems
                .push(within(Problem::new("name", format!("there is a column `{}` already", column.name))));
        }
        let problem = match (column.difference_of(), column.paired_of()) {
            (Some(of), _) => problem_of_derived(column, "difference", of, &table.columns),
            (_, Some(of)) => problem_of_derived(column, "paired", of, &table.columns)
                .or_else(|| table.baseline.is_none().then(no_baseline)),
            _ => problem_of_source(column),
        };
        problems.extend(problem.map(within));
    }
    problems.extend(problem_of_baseline(table));
    for (at, row) in table.rows.iter().enumerate() {
        let within = |problem: Problem| problem.within(&format!("rows.{at}"));
        problems.extend(problem_of_row(row).map(within));
        problems.extend(problems_of_quotes(row, &table.columns).into_iter().map(within));
    }
    problems
}

fn problem_of_source(column: &ColumnSpec) -> Option<Problem> {
    let from = column.from.as_str();
    let in_group = GROUPS.iter().any(|group| from.len() > group.len() && from.starts_with(group));
    if in_group || FIGURES.contains(&from) {
        return None;
    }
    let near = nearest(from, FIGURES).map(|near| format!("did you mean `{near}`?"));
    let valid = || {
        format!(
            "a column is one of {}, or `metrics.NAME`, `train.NAME`, `recipe.KEY`, `difference.COLUMN`, \
             `paired.COLUMN`",
            list(FIGURES)
        )
    };
    Some(
        Problem::new("from", format!("`{from}` is nothing that a table can show"))
            .help(near.unwrap_or_else(valid)),
    )
}

fn no_baseline() -> Problem {
    let problem = Problem::new("from", "the table does not say what it compares with");
    problem.help("give the label of a row: `baseline: LABEL`")
}

fn problem_of_baseline(table: &TableSpec) -> Option<Problem> {
    let label = table.baseline.as_ref()?;
    let labels = || table.rows.iter().map(|row| row.label.as_str());
    let problem = match labels().filter(|other| other == label).count() {
        1 => return None,
        0 => Problem::new("baseline", format!("no row has the label `{label}`")),
        _ => Problem::new("baseline", format!("several rows have the label `{label}`")),
    };
    Some(match nearest(label, labels()) {
        Some(near) if near != label => problem.help(format!("did you mean `{near}`?")),
        _ => problem.help("name one row"),
    })
}

/// What has a difference is a figure of runs, or is computed.
fn problem_of_derived(column: &ColumnSpec, kind: &str, of: &str, columns: &[ColumnSpec]) -> Option<Problem> {
    let is_derived = |other: &ColumnSpec| other.difference_of().is_some() || other.paired_of().is_some();
    let figures = || columns.iter().filter(|other| other.from != "label" && !is_derived(other));
    let names = || figures().map(|other| other.name.as_str());
    if !names().any(|name| name == of) {
        let problem = Problem::new("from", format!("there is no column `{of}` with figures"));
        return Some(problem.help(match nearest(of, names()) {
            Some(near) => format!("did you mean `{kind}.{near}`?"),
            None => format!("the columns are {}", list(names())),
        }));
    }
    let stage = column.stage.as_ref()?;
    let problem = Problem::new("stage", format!("`{stage}`, but it is about the stage of `{of}`"));
    Some(problem.help("remove `stage`"))
}

fn problem_of_row(row: &RowSpec) -> Option<Problem> {
    let has_runs = !matches!(row.run, super::spec::Paths::None);
    let given = [
        ("recipe", row.recipe.is_some() || has_runs),
        ("stages", !row.stages.0.is_empty()),
        ("sweep", row.sweep.is_some()),
        ("unavailable", row.unavailable.is_some()),
    ];
    let given: Vec<&str> = given.into_iter().filter_map(|(name, is)| is.then_some(name)).collect();
    if let [first, second, ..] = given[..] {
        let problem = Problem::new(second, format!("a row has `{first}` or `{second}`, not both"));
        return Some(problem.help("show them in two rows, or remove one of them"));
    }
    if given.is_empty() && row.quoted.is_none() {
        let problem = Problem::new("", "the row shows nothing");
        return Some(problem.help("give it a `recipe`, `stages`, a `sweep`, or `quoted` figures of a paper"));
    }
    if !row.set.is_empty() && row.recipe.is_none() {
        return Some(Problem::new("set", "`set` goes with `recipe`").help("a stage has a `set` of its own"));
    }
    if !row.conditions.is_empty() && row.sweep.is_none() {
        return Some(Problem::new("where", "`where` goes with `sweep`").help("write `sweep: FILE`"));
    }
    if row.stage.is_some() && row.sweep.is_none() && row.recipe.is_none() && !has_runs {
        return Some(Problem::new("stage", "`stage` goes with `sweep` or `recipe`"));
    }
    None
}

fn problems_of_quotes(row: &RowSpec, columns: &[ColumnSpec]) -> Vec<Problem> {
    let Some(quoted) = &row.quoted else { return Vec::new() };
    let names = || columns.iter().filter(|column| column.from != "label").map(|column| column.name.as_str());
    let unknown = quoted.figures.keys().filter(|name| !names().any(|column| column == name.as_str()));
    unknown
        .map(|name| {
            let problem = Problem::new(format!("quoted.{name}"), "there is no such column");
            problem.help(match nearest(name, names()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("the columns are {}", list(names())),
            })
        })
        .collect()
}

/// Stages that columns name and no row has.
pub fn problems_of_stages(table: &TableSpec, stages: &BTreeSet<&str>) -> Vec<Problem> {
    let named: Vec<&str> = stages.iter().copied().filter(|stage| !stage.is_empty()).collect();
    let columns = table.columns.iter().enumerate();
    let unknown = columns.filter_map(|(at, column)| Some((at, column.stage.as_deref()?)));
    unknown
        .filter(|(_, stage)| !named.is_empty() && !named.contains(stage))
        .map(|(at, stage)| {
            let problem =
                Problem::new(format!("columns.{at}.stage"), format!("no row has a stage `{stage}`"));
            problem.help(match nearest(stage, named.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("the stages are {}", list(&named)),
            })
        })
        .collect()
}
