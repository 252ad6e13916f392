//! Features of images in two dimensions.

use std::path::Path;

use maud::{Markup, html};

use super::legend::swatch;
use super::number::count;
use super::run::Run;
use super::{Page, Section};
use crate::report::label_map::css_color;
use crate::report::{FeatureMap, ReportError};
use crate::weights::atomic;

/// Side of the drawing, in its own units.
const SIDE: f64 = 600.0;
/// What is left free around the points.
const MARGIN: f64 = 12.0;

/// Writes a page with a map alone.
///
/// # Errors
/// If it cannot be written.
pub fn write_map_page(map: &FeatureMap, title: &str, path: &Path) -> Result<(), ReportError> {
    let page = Page {
        title,
        header: html! { h1 { (title) } },
        sections: vec![Section { id: "features", title: "Features", content: drawing(map) }],
        version: env!("CARGO_PKG_VERSION"),
        style: &format!("{}{}", include_str!("report.css"), include_str!("feature_map.css")),
        script: None,
    };
    atomic::write_bytes(path, page.render()).map_err(ReportError::from)
}

/// `None` where no features were measured.
pub(super) fn section(run: &Run) -> Option<Markup> {
    let map = run.features.as_ref().filter(|map| !map.points.is_empty())?;
    Some(html! {
        p.note { "Validation images at step " (count(map.step)) "." }
        (drawing(map))
    })
}

/// Each image a dot in the colour of its class; both axes have the same scale.
fn drawing(map: &FeatureMap) -> Markup {
    let mut classes: Vec<&str> = map.points.iter().filter_map(|point| point.class.as_deref()).collect();
    classes.sort_unstable();
    classes.dedup();
    // Black is nobody's; the last colour is that of what has no class.
    let color = |class: Option<&str>| {
        let at = class.and_then(|class| classes.binary_search(&class).ok());
        at.map_or_else(|| "#808080".to_owned(), |at| css_color((at % 254 + 1) as u8))
    };
    let extent =
        map.points.iter().flat_map(|point| point.at).fold(0.0_f64, |most, value| most.max(value.abs()));
    let scale = (SIDE / 2.0 - MARGIN) / extent.max(f64::MIN_POSITIVE);
    let [x, y] = map.explained.map(|share| format!("{:.1} %", 100.0 * share));
    let label = format!("{} images by the features of {}", map.points.len(), map.level);
    html! {
        p.note {
            "Features of " code { (map.level) } " of " (count(map.points.len() as u64)) " images, along their first two principal components, which hold "
            (x) " and " (y) " of the variance."
        }
        ul.classes aria-label="Classes" {
            @for class in &classes { li { (swatch(&color(Some(class)))) (class) } }
        }
        svg.map viewBox=(format!("0 0 {SIDE} {SIDE}")) role="img" aria-label=(label) {
            @for point in &map.points {
                circle cx=(place(point.at[0], scale)) cy=(place(-point.at[1], scale)) r="3.5" fill=(color(point.class.as_deref())) {
                    title { (point.image) @if let Some(class) = &point.class { " · " (class) } }
                }
            }
        }
    }
}

fn place(value: f64, scale: f64) -> String {
    format!("{:.1}", SIDE / 2.0 + scale * value)
}
