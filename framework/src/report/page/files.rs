//! What lies beside the page in the run directory, and the samples that could not be read.

use maud::{Markup, html};

use super::number::count;
use super::run::Run;

/// More corrupt samples than this are counted, not listed.
const MOST_CORRUPT: usize = 100;

/// The files worth opening, with what they hold.
const FILES: [(&str, &str); 5] = [
    ("summary.json", "final metrics"),
    ("metrics.parquet", "all metrics"),
    ("recipe.lock.yaml", "the resolved recipe"),
    ("environment.json", "what ran it"),
    ("log.jsonl", "the log"),
];

pub(super) fn section() -> Markup {
    html! {
        ul { @for (path, text) in FILES { li { a href={ "./" (path) } { (path) } " " span.about { (text) } } } }
    }
}

/// `None` where all could be read.
pub(super) fn corrupt_samples(run: &Run) -> Option<Markup> {
    let samples = &run.details.corrupt_samples;
    let unlisted = samples.len().saturating_sub(MOST_CORRUPT);
    (!samples.is_empty()).then(|| {
        html! {
            p { "Left out because they could not be read: " (count(samples.len() as u64)) "." }
            div.wide {
                table {
                    thead { tr { th scope="col" { "Sample" } th scope="col" { "Reason" } } }
                    tbody {
                        @for sample in samples.iter().take(MOST_CORRUPT) {
                            tr { th.path scope="row" { (sample.path.display()) } td { (sample.reason) } }
                        }
                    }
                }
            }
            @if unlisted > 0 { p { "And " (count(unlisted as u64)) " more; see the log." } }
        }
    })
}
