//! The charts of a page as files for a paper.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use super::charts::{Chart, Curves, title};
use super::keys::{OverKey, swept_metrics};
use super::plot::{Drawing, Frame, Line};
use super::run::Run;
use super::variants::Variants;
use super::{curves, palette};
use crate::report::ReportError;
use crate::weights::atomic;

/// Writes every chart to `folder`, as SVG and as PDF; tells how many there are.
pub(super) fn write(runs: &[Run], variants: &Variants, folder: &Path) -> Result<usize, ReportError> {
    fs::create_dir_all(folder).map_err(ReportError::io("create", folder))?;
    let mut written = Written { folder, names: HashSet::new() };
    let curves = Curves::new(runs, variants);
    for chart in &curves.charts {
        let lines = curves::lines(chart);
        let name = chart.title();
        let (stem, y) = match chart.split {
            Some(split) => (format!("{} {name}", title(split)), format!("{name}, {}", title(split))),
            None => (name.clone(), name),
        };
        let frame = Frame { x: "step", y: &y, legend: legend(chart, curves.legend()) };
        written.add(
            &stem,
            &Drawing { lines: &lines, log_scale: chart.log_scale, labels: None, frame: Some(&frame) },
        )?;
    }
    for metric in swept_metrics(runs, variants) {
        for (at, key) in variants.keys.iter().enumerate() {
            let Some(over) = OverKey::new(runs, variants, at, metric) else { continue };
            let lines: Vec<Line> = over.lines().collect();
            let names: Vec<_> =
                over.names().zip(0..).map(|(name, entry)| (name, palette::key(entry))).collect();
            let y = metric.replace('_', " ");
            let legend = if names.len() > 1 { names } else { Vec::new() };
            let frame = Frame { x: &key.name, y: &y, legend };
            let labels = over.labels.as_deref();
            written.add(
                &format!("{y} over {}", key.name),
                &Drawing { lines: &lines, log_scale: false, labels, frame: Some(&frame) },
            )?;
        }
    }
    Ok(written.names.len())
}

/// The entries of the lines of a chart; none where there is one line.
fn legend<'a>(chart: &Chart<'_>, labels: &[&'a str]) -> Vec<(&'a str, super::plot::RGBColor)> {
    let mut entries: Vec<usize> = chart.lines.iter().map(|series| series.entry).collect();
    entries.sort_unstable();
    entries.dedup();
    match entries.as_slice() {
        [_] => Vec::new(),
        _ => {
            entries.into_iter().filter_map(|entry| Some((*labels.get(entry)?, palette::key(entry)))).collect()
        }
    }
}

/// The files of a folder.
struct Written<'a> {
    folder: &'a Path,
    names: HashSet<String>,
}

impl Written<'_> {
    /// Writes a figure; one without anything to draw is left out.
    fn add(&mut self, stem: &str, drawing: &Drawing<'_>) -> Result<(), ReportError> {
        let (Some(svg), Some(pdf)) = (drawing.svg(), drawing.pdf()) else { return Ok(()) };
        let name = self.unique(&file_name(stem));
        atomic::write_bytes(&self.folder.join(format!("{name}.svg")), svg)?;
        atomic::write_bytes(&self.folder.join(format!("{name}.pdf")), pdf)?;
        self.names.insert(name);
        Ok(())
    }

    fn unique(&self, name: &str) -> String {
        let numbered = (2..).map(|number| format!("{name}-{number}"));
        let mut names = std::iter::once(name.to_owned()).chain(numbered);
        names.find(|name| !self.names.contains(name)).unwrap_or_default()
    }
}

/// A name that every file system takes.
fn file_name(stem: &str) -> String {
    let plain =
        |letter: char| if letter.is_ascii_alphanumeric() || ".+".contains(letter) { letter } else { '_' };
    let name: String = stem.chars().map(plain).take(100).collect();
    name.trim_matches(['.', '_']).to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_are_plain_and_told_apart() {
        assert_eq!(file_name("validation top1"), "validation_top1");
        assert_eq!(file_name("../x/</y>"), "x___y");
        let names = ["a", "a-2"].map(str::to_owned).into();
        assert_eq!(Written { folder: Path::new(""), names }.unique("a"), "a-3");
    }
}
