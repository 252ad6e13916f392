//! Fills the cells of a table from its runs.

use std::collections::BTreeMap;

use serde_json::Value;

use super::code::code;
use super::figure::epochs;
use super::notes::{self, Notes};
use super::paired::PairedDifference;
use super::plan::{RequiredRun, RowPlan};
use super::runs::{Found, State};
use super::sheet::{Cell, Content, Heading, Sheet, SourceRun};
use super::spec::{Best, ColumnSpec, RowSpec, TableSpec};
use crate::metrics::Spread;
use crate::terminal::visible;

/// What is said where the time of a row's runs is not known.
const NOT_TIMED: &str = "Not known on this machine: `convmae check RECIPE --time` times the steps of a recipe, and how many there \
                         are in an epoch the data say.";

/// What is said where the time is that of runs.
const MEASURED: &str = "As long as the runs took, with evaluation and whatever else the machine did: their steps were not timed here.";

/// What is said where a seed does not tell the runs of a row apart.
const SEED_TWICE: &str =
    "Not compared with the baseline: several runs of a row have one seed, or a run has none.";

/// The table with its values.
pub fn fill(table: &TableSpec, rows: &[RowPlan], found: &Found) -> Sheet {
    let mut notes = Notes::default();
    let mut sheet = Sheet {
        title: visible(table.title.trim()),
        description: table.description.trim().to_owned(),
        columns: table.columns.iter().map(heading).collect(),
        rows: Vec::new(),
        notes: Vec::new(),
        sources: Vec::new(),
    };
    let rows = table.rows.iter().zip(rows).enumerate();
    let rows: Vec<RowRuns<'_>> = rows.map(|(at, (spec, plan))| RowRuns { at, spec, plan, found }).collect();
    let baseline = table.baseline.as_ref().and_then(|label| rows.iter().find(|row| row.spec.label == *label));
    for row in &rows {
        let said = notes::of_row(row.spec, row.plan).into_iter().map(|text| notes.number(&text));
        let said: Vec<_> = said.collect();
        let mut cells: Vec<Cell> = table.columns.iter().map(|column| row.cell(column, &mut notes)).collect();
        for (at, column) in table.columns.iter().enumerate() {
            if let Some(of) = column.difference_of().and_then(|of| named(&table.columns, of)) {
                cells[at] = difference(&cells[of], column);
            }
            let paired = column.paired_of().and_then(|of| named(&table.columns, of));
            if let (Some(of), Some(baseline)) = (paired, baseline) {
                cells[at] = row.paired(baseline, &table.columns[of], column, &mut notes);
            }
        }
        if let Some(first) = cells.first_mut() {
            first.notes.splice(0..0, said);
        }
        sheet.rows.push(cells);
        sheet.sources.extend(row.sources());
    }
    for (at, (column, heading)) in table.columns.iter().zip(&mut sheet.columns).enumerate() {
        let cells = || sheet.rows.iter().map(|row| &row[at]);
        let is_number = |cell: &Cell| {
            matches!(cell.ours, Some(Content::Figure(_) | Content::Difference(_))) || cell.paper.is_some()
        };
        let is_derived = column.difference_of().is_some() || column.paired_of().is_some();
        heading.numeric = is_derived || column.is_hours() || cells().any(is_number);
        heading.has_differences =
            table.columns.iter().any(|other| other.difference_of() == Some(column.name.as_str()));
        heading.quoted = cells().any(|cell| cell.paper.is_some());
        if let Some(best) = column.best {
            mark(&mut sheet.rows, at, best);
        }
    }
    sheet.notes = notes.into_texts();
    sheet
}

fn heading(column: &ColumnSpec) -> Heading {
    let measured = !is_label(column) && !is_computed(column);
    Heading {
        name: visible(&column.name),
        digits: column.digits,
        measured,
        paired: column.paired_of().is_some(),
        numeric: false,
        quoted: false,
        has_differences: false,
    }
}

/// The place of a column.
fn named(columns: &[ColumnSpec], name: &str) -> Option<usize> {
    columns.iter().position(|column| column.name == name)
}

/// What a column of differences shows of a cell: a dash where ours is awaited.
fn difference(of: &Cell, column: &ColumnSpec) -> Cell {
    let difference = of.difference().map(|difference| difference * column.scale.unwrap_or(1.0));
    Cell {
        ours: difference.map(Content::Difference),
        awaited: of.awaited && of.paper.is_some(),
        ..Cell::default()
    }
}

fn is_label(column: &ColumnSpec) -> bool {
    column.from == "label"
}

/// Whether its values are known before anything is run.
fn is_computed(column: &ColumnSpec) -> bool {
    matches!(column.from.as_str(), "parameters" | "gmacs" | "hours")
        || ["recipe.", "difference.", "paired."].iter().any(|group| column.from.starts_with(group))
}

/// Marks the best values of a column, if there are several to choose from.
fn mark(rows: &mut [Vec<Cell>], column: usize, best: Best) {
    let figures: Vec<f64> = rows.iter().filter_map(|row| row[column].figure()).collect();
    let extreme = match best {
        Best::Max => figures.iter().copied().reduce(f64::max),
        Best::Min => figures.iter().copied().reduce(f64::min),
    };
    if figures.len() > 1 {
        rows.iter_mut().for_each(|row| row[column].best = row[column].figure() == extreme);
    }
}

/// A row with its runs.
struct RowRuns<'t> {
    at: usize,
    spec: &'t RowSpec,
    plan: &'t RowPlan,
    found: &'t Found,
}

impl<'t> RowRuns<'t> {
    fn cell(&self, column: &ColumnSpec, notes: &mut Notes) -> Cell {
        if is_label(column) {
            return Cell { ours: Some(Content::Text(visible(&self.spec.label))), ..Cell::default() };
        }
        let paper = self.spec.quoted.as_ref().and_then(|quoted| quoted.figures.get(&column.name).copied());
        let runs = self.runs_of(column);
        // A paper's figure beside ours is told from one that stands alone, even where there is no run for it.
        let beside = paper.is_some() && !self.plan.runs.is_empty();
        let awaited = !runs.is_empty() || self.spec.unavailable.is_some() || beside;
        let mut cell = Cell { paper, awaited, ..Cell::default() };
        if column.is_hours() {
            return Cell { paper, ..self.hours(column, notes) };
        }
        if is_computed(column) {
            let values = runs.iter().map(|(at, run)| self.computed(*at, run, &column.from));
            cell.ours = distinct(&values.collect::<Vec<_>>(), column);
            return cell;
        }
        let said = notes::of_runs(runs.iter().copied(), self.at, self.found);
        cell.notes.extend(said.into_iter().map(|text| notes.number(&text)));
        if let Some(note) = self.difference(&runs) {
            cell.notes.push(notes.number(&note));
            return cell;
        }
        let mut values = Vec::new();
        for (at, value) in self.measured(column) {
            match value {
                Value::Null => {
                    let directory = code(&self.plan.runs[at].directory.display().to_string());
                    let note = format!("{directory} has no {}.", code(&column.from));
                    cell.notes.push(notes.number(&note));
                }
                value => values.push(value),
            }
        }
        cell.ours = aggregate(&values, column);
        cell
    }

    /// What a column `paired.COLUMN` shows: this row minus the baseline, in the units of the column that it compares.
    fn paired(&self, baseline: &Self, of: &ColumnSpec, column: &ColumnSpec, notes: &mut Notes) -> Cell {
        if self.at == baseline.at || self.plan.runs.is_empty() {
            return Cell::default();
        }
        let mut cell = Cell { awaited: true, ..Cell::default() };
        let scale = column.scale.unwrap_or(1.0);
        match (self.by_seed(of, scale), baseline.by_seed(of, scale)) {
            (Some(figures), Some(others)) => {
                cell.ours = PairedDifference::between(&figures, &others).map(Content::Paired);
            }
            _ => cell.notes.push(notes.number(SEED_TWICE)),
        }
        cell
    }

    /// The figures of the finished runs by their seeds; `None` where those do not tell them apart.
    fn by_seed(&self, column: &ColumnSpec, scale: f64) -> Option<BTreeMap<u64, f64>> {
        let mut figures = BTreeMap::new();
        for (at, value) in self.measured(column) {
            let seed = self.found.value(self.at, at, "seed").as_u64()?;
            if let Some(Ok(figure)) = content(&value, column) {
                figures.insert(seed, figure * scale).is_none().then_some(())?;
            }
        }
        Some(figures)
    }

    /// What a column shows of the finished runs, null where one has no such figure.
    fn measured(&self, column: &ColumnSpec) -> impl Iterator<Item = (usize, Value)> {
        let runs = self.runs_of(column).into_iter().map(|(at, _)| at);
        let finished = runs.filter(|at| *self.found.of(self.at, *at) == State::Finished);
        finished.map(|at| (at, self.found.value(self.at, at, &column.from)))
    }

    /// What the training of all runs of the row takes, or of those of the column's stage.
    fn hours(&self, column: &ColumnSpec, notes: &mut Notes) -> Cell {
        let is_meant = |run: &RequiredRun| column.stage.as_ref().is_none_or(|stage| run.stage == *stage);
        let (mut cell, mut total, mut any_measured) = (Cell::default(), Some(0.0), false);
        for (at, run) in self.plan.runs.iter().enumerate().filter(|(_, run)| is_meant(run)) {
            let Some(known) = &run.known else { continue };
            cell.awaited = true;
            let measured = || self.seconds(at).inspect(|_| any_measured = true);
            total = total.zip(known.seconds.or_else(measured)).map(|(total, seconds)| total + seconds);
        }
        match total {
            _ if !cell.awaited => return cell,
            Some(seconds) => {
                let hours = seconds / 3600.0 * column.scale.unwrap_or(1.0);
                cell.ours = Some(Content::Figure(Spread::exact(hours)));
                if any_measured {
                    cell.notes.push(notes.number(MEASURED));
                }
            }
            None => cell.notes.push(notes.number(NOT_TIMED)),
        }
        cell
    }

    /// How long a finished run took.
    fn seconds(&self, at: usize) -> Option<f64> {
        let is_finished = *self.found.of(self.at, at) == State::Finished;
        self.found.value(self.at, at, "seconds").as_f64().filter(|_| is_finished)
    }

    /// Why there is no mean over these runs.
    fn difference(&self, runs: &[(usize, &'t RequiredRun)]) -> Option<String> {
        let compared = runs.iter().filter(|(at, _)| !matches!(self.found.of(self.at, *at), State::Other(_)));
        let key = self.found.recipes.difference(self.plan, compared.map(|(_, run)| *run))?;
        let narrow = if self.spec.sweep.is_some() { "where" } else { "run" };
        Some(format!("Not averaged, for the runs are of different recipes: {key}. Narrow `{narrow}`."))
    }

    /// The runs of the stage that a column is about.
    fn runs_of(&self, column: &ColumnSpec) -> Vec<(usize, &'t RequiredRun)> {
        let stage = column.stage.as_ref().unwrap_or(&self.plan.last_stage);
        let runs = self.plan.runs.iter().enumerate();
        runs.filter(|(_, run)| run.stage.is_empty() || run.stage == *stage).collect()
    }

    /// What is known of a run from its recipe; of a directory alone, from what it holds.
    fn computed(&self, at: usize, run: &RequiredRun, from: &str) -> Value {
        let Some(known) = &run.known else { return self.found.value(self.at, at, from) };
        match from {
            "parameters" => known.parameters.into(),
            "gmacs" => known.gmacs.into(),
            key => {
                let key = key.strip_prefix("recipe.").unwrap_or(key);
                known.recipe.get(key).cloned().unwrap_or_default()
            }
        }
    }

    /// Where the figures of finished runs come from.
    fn sources(&self) -> impl Iterator<Item = SourceRun> {
        let text =
            |at: usize, column: &str| self.found.value(self.at, at, column).as_str().map(str::to_owned);
        let runs = self.plan.runs.iter().enumerate();
        let finished = runs.filter(|(at, _)| *self.found.of(self.at, *at) == State::Finished);
        finished.map(move |(at, run)| SourceRun {
            row: self.at,
            label: visible(&self.spec.label),
            stage: run.stage.clone(),
            directory: run.directory.display().to_string(),
            recipe: run.known.as_ref().map(|known| known.file.display().to_string()).unwrap_or_default(),
            digest: text(at, "digest").unwrap_or_default(),
            commit: text(at, "git_commit"),
        })
    }
}

/// A value in the units of its column: a number, or a text.
fn content(value: &Value, column: &ColumnSpec) -> Option<Result<f64, String>> {
    let scaled = |number: f64| number * column.scale.unwrap_or(1.0);
    match value {
        Value::Null => None,
        Value::Number(number) => number.as_f64().map(|number| Ok(scaled(number))),
        Value::String(text) => {
            let asks = column.digits.is_some() || column.scale.is_some();
            let number = epochs(text).filter(|_| asks);
            Some(number.map_or_else(|| Err(visible(text)), |number| Ok(scaled(number))))
        }
        other => Some(Err(other.to_string())),
    }
}

/// The mean of numbers; of texts, the different ones.
fn aggregate(values: &[Value], column: &ColumnSpec) -> Option<Content> {
    let contents: Vec<_> = values.iter().filter_map(|value| content(value, column)).collect();
    let numbers: Vec<f64> = contents.iter().filter_map(|content| content.as_ref().ok().copied()).collect();
    if numbers.len() == contents.len() {
        return Spread::of(&numbers).map(Content::Figure);
    }
    distinct(values, column)
}

/// The one value that all have, or all different ones as a text.
fn distinct(values: &[Value], column: &ColumnSpec) -> Option<Content> {
    let mut all: Vec<Result<f64, String>> = Vec::new();
    for content in values.iter().filter_map(|value| content(value, column)) {
        if !all.contains(&content) {
            all.push(content);
        }
    }
    if let [Ok(number)] = all[..] {
        return Some(Content::Figure(Spread::exact(number)));
    }
    let words = all.into_iter().map(|content| match content {
        Ok(number) => super::figure::number(number, column.digits),
        Err(text) => text,
    });
    let text = words.collect::<Vec<_>>().join(", ");
    (!text.is_empty()).then_some(Content::Text(text))
}
