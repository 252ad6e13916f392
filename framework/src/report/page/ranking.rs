//! Variants by the metric that decides, with the spread of their seeds.

use maud::{Markup, html};

use super::direction::more_is_better;
use super::number::spread;
use super::palette;
use super::run::Run;
use super::summary::validated;
use super::variants::{Variant, Variants};
use crate::metrics::Spread;

/// Variants that the same metric ranks.
struct Ranking<'a> {
    /// The metric that decides, then the others.
    metrics: Vec<Metric<'a>>,
    /// The best first; those without a value last.
    variants: Vec<&'a Variant>,
}

struct Metric<'a> {
    name: &'a str,
    /// Of each of the variants.
    values: Vec<Option<Spread>>,
    /// Whether more is better, where it is known.
    more_is_better: Option<bool>,
}

/// `None` where there is nothing to rank, or no variant has several runs.
pub(super) fn section(runs: &[Run], variants: &Variants) -> Option<Markup> {
    if variants.all.len() < 2 || !variants.are_repeated() {
        return None;
    }
    let rankings = rankings(runs, variants);
    (!rankings.is_empty()).then(|| {
        html! {
            p.note {
                "Runs that differ in nothing but their seeds are one variant: mean ± sample standard deviation of the last evaluation of each. A mean is "
                b { "bold" } " where it is the best and further from every other mean than both deviations together; nothing is said of a variant of one run."
            }
            @for ranking in &rankings { (ranking.table(variants)) }
        }
    })
}

/// A ranking for every metric that decides for some variants.
fn rankings<'a>(runs: &'a [Run], variants: &'a Variants) -> Vec<Ranking<'a>> {
    let deciding = |variant: &Variant| runs[variant.runs[0]].deciding();
    let mut names: Vec<(&str, bool)> = Vec::new();
    for name in variants.all.iter().filter_map(deciding) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let ranking = |(name, more): (&'a str, bool)| {
        let mut of_metric: Vec<&Variant> =
            variants.all.iter().filter(|variant| deciding(variant) == Some((name, more))).collect();
        of_metric.sort_by(|a, b| by_value(value(runs, a, name), value(runs, b, name), more));
        let others = of_metric.iter().flat_map(|variant| &variant.runs).map(|run| &runs[*run]);
        let others = validated(others).into_iter().filter(|other| *other != name);
        let metric = |name: &'a str, more_is_better| Metric {
            name,
            values: of_metric.iter().map(|variant| value(runs, variant, name)).collect(),
            more_is_better,
        };
        let metrics = std::iter::once(metric(name, Some(more)))
            .chain(others.map(|other| metric(other, more_is_better(other))))
            .collect();
        Ranking { metrics, variants: of_metric }
    };
    names.into_iter().map(ranking).collect()
}

/// The better one first, what is missing last.
pub(super) fn by_value(a: Option<Spread>, b: Option<Spread>, more: bool) -> std::cmp::Ordering {
    let of = |spread: Option<Spread>| spread.map(|spread| spread.mean).filter(|mean| mean.is_finite());
    match (of(a), of(b)) {
        (Some(a), Some(b)) if more => b.total_cmp(&a),
        (Some(a), Some(b)) => a.total_cmp(&b),
        (a, b) => a.is_none().cmp(&b.is_none()),
    }
}

/// What the runs of a variant validated last.
pub(super) fn value(runs: &[Run], variant: &Variant, name: &str) -> Option<Spread> {
    let key = format!("val.{name}");
    Spread::of(&variant.runs.iter().filter_map(|run| runs[*run].figure(&key)).collect::<Vec<_>>())
}

impl Ranking<'_> {
    fn table(&self, variants: &Variants) -> Markup {
        html! {
            div.wide {
                table.sortable.ranking {
                    thead {
                        tr {
                            th.number scope="col" { "Rank" }
                            th scope="col" { "Variant" }
                            th.number scope="col" { "Runs" }
                            @for metric in &self.metrics { th.number scope="col" { (metric.name.replace('_', " ")) } }
                        }
                    }
                    tbody {
                        @for (at, variant) in self.variants.iter().enumerate() {
                            @let entry = variants.of_run(variant.runs[0]);
                            tr {
                                td.number data-value=(at + 1) { (at + 1) }
                                th.run scope="row" data-value=(variant.label) { (palette::sample(entry)) (variant.label) }
                                td.number data-value=(variant.runs.len()) { (variant.runs.len()) }
                                @for metric in &self.metrics { (metric.cell(at)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

impl Metric<'_> {
    fn cell(&self, at: usize) -> Markup {
        match self.values[at] {
            Some(own) if self.is_best(at) => {
                html! { td.number data-value=(own.mean) { strong { (spread(&own)) } } }
            }
            Some(own) => html! { td.number data-value=(own.mean) { (spread(&own)) } },
            None => html! { td.number.empty { "–" } },
        }
    }

    /// Whether a value is better than all others beyond the spread.
    fn is_best(&self, at: usize) -> bool {
        let (Some(own), Some(more)) = (self.values[at], self.more_is_better) else { return false };
        let mut others = self.values.iter().enumerate().filter(|(other, _)| *other != at);
        let is_worse = |other: &Spread| if more { own.mean > other.mean } else { own.mean < other.mean };
        others.clone().any(|(_, other)| other.is_some())
            && others.all(|(_, other)| other.is_none_or(|other| is_worse(&other) && own.is_apart(&other)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Runs of variants, each with the top1 of its seeds.
    fn page(variants: &[&[f64]]) -> Option<String> {
        let of = |(variant, values): (usize, &&[f64])| {
            let run = move |(seed, value): (usize, &f64)| {
                let recipe = json!({"seed": seed, "lr": variant});
                let mut run = Run { lineage: recipe.clone(), recipe, ..Run::default() };
                run.summary.set("val.top1", *value);
                run.summary.set("val.loss", 1.0);
                run
            };
            values.iter().enumerate().map(run).collect::<Vec<_>>()
        };
        let runs: Vec<Run> = variants.iter().enumerate().flat_map(of).collect();
        section(&runs, &Variants::of(&runs)).map(Markup::into_string)
    }

    #[test]
    fn the_best_comes_first_and_is_bold_beyond_the_spread() {
        let apart = page(&[&[70.0, 71.0], &[80.0, 81.0, 82.0]]).unwrap_or_default();
        assert!(apart.contains("<strong>81.0 ± 1.0</strong>"), "{apart}");
        assert!(apart.find("lr 1") < apart.find("lr 0") && !apart.contains("<strong>70"), "{apart}");
        let within = page(&[&[79.0, 81.0], &[80.0, 81.0, 82.0]]).unwrap_or_default();
        assert!(!within.contains("<strong>") && within.contains("81.0 ± 1.0"), "{within}");
        // Equal losses.
        assert_eq!(apart.matches("<strong>").count(), 1);
    }

    #[test]
    fn a_single_run_is_ranked_and_never_told_better() {
        let ranked = page(&[&[70.0, 71.0], &[90.0]]).unwrap_or_default();
        assert!(!ranked.contains("<strong>") && ranked.find("lr 1") < ranked.find("lr 0"), "{ranked}");
        assert_eq!(page(&[&[70.0], &[90.0]]), None, "without seeds there is no spread");
        assert_eq!(page(&[&[70.0, 71.0]]), None);
    }
}
