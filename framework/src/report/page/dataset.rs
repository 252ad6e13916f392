//! The page of a recipe's data: what is there, and what training sees of it.

use std::path::Path;

use image::RgbImage;
use maud::{Markup, html};

use super::embedded::encoded;
use super::legend::{legend, swatch};
use super::number::{count, figure};
use super::pictures::PIXELATED_BELOW;
use super::{Page, Section};
use crate::component::TaskKind;
use crate::report::label_map::css_color;
use crate::report::{Augmented, ClassCounts, DatasetView, ReportError, SplitView, Transformed};
use crate::weights::atomic;

/// Sizes of images that are listed.
const MOST_SIZES: usize = 12;
/// Corrupt samples that are listed.
const MOST_CORRUPT: usize = 100;
/// Longest side of a picture of the page.
const SIDE: u32 = 320;

/// Writes the page to `path`.
///
/// # Errors
/// If it cannot be written.
pub fn write_dataset_page(view: &DatasetView, path: &Path) -> Result<(), ReportError> {
    atomic::write_bytes(path, render(view)).map_err(ReportError::from)
}

fn render(view: &DatasetView) -> String {
    let title = format!("Data of {}", view.name);
    let style = format!("{}{}", include_str!("report.css"), include_str!("dataset.css"));
    Page {
        title: &title,
        header: html! { h1 { (title) } (figures(view)) },
        sections: sections(view),
        version: env!("CARGO_PKG_VERSION"),
        style: &style,
        script: Some(include_str!("report.js")),
    }
    .render()
}

fn figures(view: &DatasetView) -> Markup {
    html! {
        dl.summary {
            @for split in &view.splits {
                div { dt { (split.split) " samples" } dd { (count(split.samples as u64)) } }
                div { dt { (split.split) " corrupt, of " (count(split.read as u64)) " read" } dd { (split.corrupt.len()) } }
            }
        }
        @for split in &view.splits {
            @for warning in &split.warnings { p.left-out role="note" { "data." (split.split) ": " (warning) } }
        }
    }
}

fn sections(view: &DatasetView) -> Vec<Section> {
    let has_batch = view.splits.iter().any(|split| !split.batch.is_empty());
    let has_corrupt = view.splits.iter().any(|split| !split.corrupt.is_empty());
    [
        ("images", "Images", Some(images(view))),
        ("classes", "Classes", classes(view)),
        ("transforms", "Transforms", Some(of_splits(view, transforms))),
        ("batches", "First batches", has_batch.then(|| of_splits(view, batch))),
        ("corrupt", "Corrupt samples", has_corrupt.then(|| of_splits(view, corrupt))),
    ]
    .into_iter()
    .filter_map(|(id, title, content)| Some(Section { id, title, content: content? }))
    .collect()
}

/// What there is to say of each split, under its name.
fn of_splits(view: &DatasetView, content: fn(&SplitView) -> Option<Markup>) -> Markup {
    html! {
        @for split in &view.splits {
            @if let Some(content) = content(split) { h3.group { (split.split) } (content) }
        }
    }
}

/// Sizes and colours.
fn images(view: &DatasetView) -> Markup {
    let channels =
        |values: &[f64]| values.iter().map(|value| format!("{value:.4}")).collect::<Vec<_>>().join(", ");
    let of_recipe = |values: &[f32]| values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    html! {
        div.wide {
            table {
                thead {
                    tr {
                        th scope="col" { "Split" }
                        @for title in ["Read", "Height", "Width"] { th.number scope="col" { (title) } }
                        @for title in ["Mean of the channels", "Standard deviation"] { th scope="col" { (title) } }
                        th scope="col" { "Passed over" }
                    }
                }
                tbody {
                    @for split in &view.splits {
                        tr {
                            th scope="row" { (split.split) }
                            td.number { (count(split.read as u64)) " of " (count(split.samples as u64)) }
                            td.number { (range(split, 0)) }
                            td.number { (range(split, 1)) }
                            td.shapes { (channels(&split.pixels.mean)) }
                            td.shapes { (channels(&split.pixels.std)) }
                            td { @if split.passed_over.is_empty() { "–" } @else { (split.passed_over.to_string()) } }
                        }
                        @if let Some(normalization) = &split.normalization {
                            tr {
                                th scope="row" colspan="4" { "Normalize of the recipe" }
                                td.shapes { (of_recipe(&normalization.mean)) }
                                td.shapes { (of_recipe(&normalization.std)) }
                                td {}
                            }
                        }
                    }
                }
            }
        }
        @for split in &view.splits {
            @if split.sizes.len() > 1 {
                details {
                    summary { (split.split) ": " (split.sizes.len()) " sizes" }
                    ul.classes {
                        @for ([height, width], images) in split.sizes.iter().take(MOST_SIZES) {
                            li { (height) " x " (width) ": " (count(*images)) }
                        }
                        @if split.sizes.len() > MOST_SIZES { li { "and others" } }
                    }
                }
            }
        }
    }
}

/// Least, median and greatest of a side.
fn range(split: &SplitView, side: usize) -> String {
    let mut sides: Vec<(usize, u64)> =
        split.sizes.iter().map(|(size, images)| (size[side], *images)).collect();
    sides.sort_unstable();
    let half = sides.iter().map(|(_, images)| images).sum::<u64>().div_ceil(2);
    let mut before = 0;
    let median = sides.iter().find(|(_, images)| {
        before += images;
        before >= half
    });
    match (sides.first(), median, sides.last()) {
        (Some((least, _)), _, Some((greatest, _))) if least == greatest => least.to_string(),
        (Some((least, _)), Some((median, _)), Some((greatest, _))) => {
            format!("{least} · {median} · {greatest}")
        }
        _ => "–".to_owned(),
    }
}

/// `None` where nothing has a class.
fn classes(view: &DatasetView) -> Option<Markup> {
    let all = || view.splits.iter().flat_map(|split| split.classes.iter().map(move |of| (split, of)));
    all().next()?;
    Some(html! {
        p.note { "Images of a class, or its objects, or its pixels. Headings sort." }
        div.tables { @for (split, of) in all() { (class_table(split, of)) } }
    })
}

fn class_table(split: &SplitView, of: &ClassCounts) -> Markup {
    let what = match of.task {
        TaskKind::Segment => "pixels",
        TaskKind::Detect => "objects",
        _ => "images",
    };
    let total: u64 = of.counts.iter().map(|(_, count)| count).sum();
    let most = of.counts.iter().map(|(_, count)| *count).max().unwrap_or_default().max(1);
    html! {
        table.sortable {
            caption {
                (split.split) ": " (count(total)) " " (what) " of " (of.counts.len()) " classes"
                @if !of.of_all { ", in the samples that were read" }
            }
            thead {
                tr {
                    th scope="col" { "Class" }
                    th.number scope="col" { (what) }
                    th scope="col" colspan="2" { "Share" }
                }
            }
            tbody {
                @for (index, (name, of_class)) in of.counts.iter().enumerate() {
                    tr {
                        th scope="row" data-value=(index) {
                            @if of.task == TaskKind::Segment { (swatch(&u8::try_from(index).map(css_color).unwrap_or_default())) }
                            (name)
                        }
                        td.number data-value=(of_class) { (count(*of_class)) }
                        td.number data-value=(of_class) { (figure(100.0 * *of_class as f64 / total.max(1) as f64)) " %" }
                        td.bar data-value=(of_class) { span style={ "width:" (100 * of_class / most) "%" } {} }
                    }
                }
            }
        }
    }
}

fn transforms(split: &SplitView) -> Option<Markup> {
    (!split.augmented.is_empty()).then(|| {
        html! {
            (legend(&split.pixel_classes))
            div.tables { @for sample in &split.augmented { (augmented(sample)) } }
        }
    })
}

/// A row an epoch, a column a transform.
fn augmented(sample: &Augmented) -> Markup {
    let columns = sample.epochs.first().map(Vec::as_slice).unwrap_or_default();
    // Without transforms all epochs are the same.
    let epochs = if columns.is_empty() { 1 } else { sample.epochs.len() };
    let original = &sample.original.image;
    html! {
        div.wide {
            table.pictures.large[original.width() > PIXELATED_BELOW] {
                caption { span.path { (sample.id) } @if let Some(class) = &sample.class { " · " (class) } }
                thead {
                    tr {
                        th scope="col" { "As read" }
                        @for column in columns { th scope="col" { (column.picture.caption) } }
                    }
                }
                tbody {
                    @for (epoch, transformed) in sample.epochs.iter().enumerate().take(epochs) {
                        tr {
                            td {
                                @if epoch == 0 { (picture(original, &format!("{} as read", sample.id))) }
                                small { @if columns.is_empty() { "no transform changes it" } @else { "epoch " (epoch) } }
                            }
                            @for Transformed { picture: after, size: [height, width] } in transformed {
                                td {
                                    (picture(&after.image, &format!("{} after {}", sample.id, after.caption)))
                                    small { (height) " x " (width) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn batch(split: &SplitView) -> Option<Markup> {
    let first = split.batch.first().filter(|row| !row.is_empty())?;
    Some(html! {
        p.note { "The first images of the first batch, as the model gets them, and what its maskers leave." }
        (legend(&split.pixel_classes))
        div.wide {
            table.pictures.large[first[0].image.width() > PIXELATED_BELOW] {
                thead { tr { @for picture in first { th scope="col" { (picture.caption) } } } }
                tbody {
                    @for row in &split.batch {
                        tr { @for of in row { td { (picture(&of.image, &of.caption)) } } }
                    }
                }
            }
        }
    })
}

fn corrupt(split: &SplitView) -> Option<Markup> {
    let unlisted = split.corrupt.len().saturating_sub(MOST_CORRUPT);
    (!split.corrupt.is_empty()).then(|| {
        html! {
            div.wide {
                table {
                    thead { tr { th scope="col" { "Sample" } th scope="col" { "Reason" } } }
                    tbody {
                        @for sample in split.corrupt.iter().take(MOST_CORRUPT) {
                            tr { th.path scope="row" { (sample.path.display()) } td { (sample.reason) } }
                        }
                    }
                }
            }
            @if unlisted > 0 { p { "And " (count(unlisted as u64)) " more." } }
        }
    })
}

fn picture(image: &RgbImage, alt: &str) -> Markup {
    let class = if image.width() < PIXELATED_BELOW { "pixelated" } else { "smooth" };
    html! {
        @if let Some(url) = encoded(image, Some(SIDE)) {
            img class=(class) src=(url) width=(image.width()) height=(image.height()) alt=(alt) decoding="async";
        }
    }
}
