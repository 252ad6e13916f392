//! Which classes of images the last evaluation took for which: a matrix, and what was confused most.

use std::cmp::Reverse;

use maud::{Markup, html};

use super::number::count;
use super::run::Run;
use crate::component::Confusion;

/// A matrix of more classes could not be read.
const MOST_CLASSES: usize = 40;
/// Pairs that are listed.
const MOST_PAIRS: usize = 15;

/// `None` where it was not measured.
pub(super) fn section(run: &Run) -> Option<Markup> {
    let table = run.confusion.as_ref().filter(|table| !table.confusion.counts.is_empty())?;
    let classes = table.confusion.classes();
    Some(html! {
        p.note {
            "Images of the evaluation of step " (count(table.step)) "."
            @if classes.len() <= MOST_CLASSES { " Each row is a class, each column what its images were taken for; the shade is the share of the class." }
        }
        @if classes.len() <= MOST_CLASSES { (matrix(&table.confusion, &classes)) }
        (pairs(&table.confusion))
    })
}

fn matrix(confusion: &Confusion, classes: &[usize]) -> Markup {
    let images = confusion.images();
    let has_none = confusion.counts.keys().any(|(_, predicted)| predicted.is_none());
    let columns: Vec<Option<usize>> =
        classes.iter().copied().map(Some).chain(has_none.then_some(None)).collect();
    html! {
        div.wide {
            table.confusion {
                thead {
                    tr {
                        th scope="col" { "Class" }
                        @for column in &columns { th scope="col" { span { (predicted(confusion, *column)) } } }
                    }
                }
                tbody {
                    @for class in classes {
                        @let of_class = images.get(class).copied().unwrap_or(0);
                        tr {
                            th scope="row" { (confusion.label(*class)) }
                            @for column in &columns { (cell(confusion, *class, *column, of_class)) }
                        }
                    }
                }
            }
        }
    }
}

fn cell(confusion: &Confusion, class: usize, column: Option<usize>, of_class: u64) -> Markup {
    let images = confusion.counts.get(&(class, column)).copied().unwrap_or(0);
    if images == 0 {
        return html! { td {} };
    }
    let share = images as f64 / of_class as f64;
    let title = format!(
        "{} taken for {}: {images} of {of_class}",
        confusion.label(class),
        predicted(confusion, column)
    );
    html! {
        td.right[column == Some(class)] style=(format!("--share:{share:.3}")) title=(title) { (count(images)) }
    }
}

/// Pairs of classes, the most frequent first.
fn pairs(confusion: &Confusion) -> Markup {
    let images = confusion.images();
    let mut pairs: Vec<_> =
        confusion.counts.iter().filter(|((class, predicted), _)| *predicted != Some(*class)).collect();
    pairs.sort_by_key(|(pair, images)| (Reverse(**images), **pair));
    html! {
        @if pairs.is_empty() {
            p { "No image was taken for one of another class." }
        } @else {
            div.wide {
                table.confused {
                    caption { "Taken for another class most often" }
                    thead {
                        tr {
                            th scope="col" { "Class" }
                            th scope="col" { "taken for" }
                            th.number scope="col" { "images" }
                            th.number scope="col" { "of the class" }
                        }
                    }
                    tbody {
                        @for ((class, column), count) in pairs.into_iter().take(MOST_PAIRS) {
                            @let of_class = images.get(class).copied().unwrap_or(*count);
                            tr {
                                th scope="row" { (confusion.label(*class)) }
                                td { (predicted(confusion, *column)) }
                                td.number { (self::count(*count)) }
                                td.number { (format!("{:.1} %", 100.0 * *count as f64 / of_class as f64)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn predicted(confusion: &Confusion, class: Option<usize>) -> String {
    class.map_or_else(|| "no class".to_owned(), |class| confusion.label(class))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::report::ConfusionTable;

    fn page(confusion: Confusion) -> String {
        let run = Run { confusion: Some(ConfusionTable { step: 20, confusion }), ..Run::default() };
        section(&run).unwrap().into_string()
    }

    #[test]
    fn a_matrix_has_a_cell_for_every_pair_and_names_what_was_confused_most() {
        let mut confusion = Confusion::new(&["<cat>".to_owned(), "dog".to_owned()]);
        let seen = [(0, Some(0)), (0, Some(1)), (0, Some(1)), (0, Some(1)), (1, Some(1)), (1, None)];
        seen.into_iter().for_each(|(class, predicted)| confusion.add(class, predicted));
        let page = page(confusion);
        for text in [
            r#"<td class="" style="--share:0.750" title="&lt;cat&gt; taken for dog: 3 of 4">3</td>"#,
            r#"<td class="right" style="--share:0.500" title="dog taken for dog: 1 of 2">1</td>"#,
            "<span>no class</span>",
            r#"&lt;cat&gt;</th><td>dog</td><td class="number">3</td><td class="number">75.0 %</td>"#,
        ] {
            assert!(page.contains(text), "{text}: {page}");
        }
        let (first, second) = (page.find("75.0 %").unwrap(), page.find("50.0 %").unwrap());
        assert!(first < second);
    }

    #[test]
    fn of_many_classes_there_are_pairs_alone() {
        let mut confusion = Confusion::default();
        (0..50).for_each(|class| confusion.add(class, Some((class + 1) % 50)));
        let page = page(confusion);
        assert!(!page.contains("class=\"confusion\"") && page.matches("100.0 %").count() == MOST_PAIRS);
        let mut right = Confusion::default();
        right.add(1, Some(1));
        assert!(self::page(right).contains("No image was taken for one of another class."));
    }
}
