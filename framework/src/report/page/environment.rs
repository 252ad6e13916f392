//! What ran the runs: what all have in common, and what tells them apart.

use maud::{Markup, html};

use super::palette;
use super::run::Run;
use crate::report::Environment;

pub(super) fn section(runs: &[Run]) -> Markup {
    let records: Vec<Option<Vec<(&str, String)>>> =
        runs.iter().map(|run| run.environment.as_ref().map(Environment::rows)).collect();
    let value = |run: usize, label: &str| {
        records[run].as_ref()?.iter().find(|(known, _)| *known == label).map(|(_, value)| value.as_str())
    };
    let mut labels: Vec<&str> = Vec::new();
    for (label, _) in records.iter().flatten().flatten() {
        if !labels.contains(label) {
            labels.push(label);
        }
    }
    let is_same = |label: &&str| (1..runs.len()).all(|run| value(run, label) == value(0, label));
    let (same, differing): (Vec<&str>, Vec<&str>) = labels.into_iter().partition(is_same);
    html! {
        @if same.is_empty() && differing.is_empty() {
            p { "No run has recorded its surroundings." }
        }
        @if !same.is_empty() {
            @if runs.len() > 1 { h3.group { "The same in all runs" } }
            div.wide {
                table { tbody { @for label in &same { tr { th scope="row" { (label) } td.path { (value(0, label).unwrap_or("–")) } } } } }
            }
        }
        @if !differing.is_empty() {
            h3.group { "Different" }
            div.wide {
                table.sortable.differing {
                    thead { tr { th scope="col" { "Run" } @for label in &differing { th scope="col" { (label) } } } }
                    tbody {
                        @for (index, run) in runs.iter().enumerate() {
                            tr data-run=(index) {
                                th.run scope="row" data-value=(run.label) { (palette::sample(run.entry)) (run.label) }
                                @for label in &differing {
                                    @let own = value(index, label);
                                    td.path.changed[own != value(0, label)] data-value=[own] { (own.unwrap_or("–")) }
                                }
                            }
                        }
                    }
                }
            }
        }
        @if records.iter().any(Option::is_none) && !differing.is_empty() {
            p.note { "“–” stands for what a run has not recorded." }
        }
    }
}
