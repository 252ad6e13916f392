//! Matching the keys and shapes of a file with those of a model.

use std::collections::HashSet;
use std::fmt;

use super::map::TensorMap;
use super::text::visible;

/// A tensor whose shape in the file is not the model's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShapePair {
    /// The tensor's name.
    pub name: String,
    /// Its shape in the file.
    pub file: Vec<usize>,
    /// Its shape in the model.
    pub expected: Vec<usize>,
}

/// What a weights file gives a model, entry by entry; every name is in exactly one list.
///
/// `Display` lists every misfit; what loads is counted, and what is allowed is counted by the first part of
/// its name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyReport {
    /// Names with equal shapes.
    pub loaded: Vec<String>,
    /// Names whose shapes differ only by axes of size one, as `[O, I, 1, 1]` and `[O, I]`; they load.
    pub reshaped: Vec<ShapePair>,
    /// Names of the model that the file lacks.
    pub missing: Vec<String>,
    /// Names of the file that the model lacks.
    pub unexpected: Vec<String>,
    /// Names of both whose shapes cannot be reconciled.
    pub mismatched: Vec<ShapePair>,
    /// Position embeddings of another grid, to be interpolated.
    pub interpolated: Vec<ShapePair>,
    /// First layers for images of another number of channels, to be adapted.
    pub adapted: Vec<ShapePair>,
    /// Names of the model that may keep their initial values.
    pub new: Vec<String>,
    /// Names of the file that may be left there.
    pub left: Vec<String>,
    /// How the tensors were found in the file and came by these names: a line each.
    pub notes: Vec<String>,
}

impl KeyReport {
    /// Whether file and model have the same names and every tensor loads.
    pub fn is_exact(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.mismatched.is_empty()
    }

    /// Takes mismatches that an interpolation mends out of the misfits.
    pub fn interpolate(&mut self, is_mended: impl Fn(&ShapePair) -> bool) {
        self.interpolated.extend(self.mismatched.extract_if(.., |pair| is_mended(pair)));
    }

    /// Takes mismatches that an adaptation to other channels mends out of the misfits.
    pub fn adapt(&mut self, is_mended: impl Fn(&ShapePair) -> bool) {
        self.adapted.extend(self.mismatched.extract_if(.., |pair| is_mended(pair)));
    }

    /// Takes what is allowed out of the misfits: parameters that may be initialised, tensors of the file that
    /// may be left there.
    pub fn allow(&mut self, is_new: impl Fn(&str) -> bool, is_left: impl Fn(&str) -> bool) {
        self.new.extend(self.missing.extract_if(.., |name| is_new(name)));
        self.new.extend(self.mismatched.extract_if(.., |pair| is_new(&pair.name)).map(|pair| pair.name));
        self.left.extend(self.unexpected.extract_if(.., |name| is_left(name)));
    }
}

impl fmt::Display for KeyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} loaded", self.loaded.len())?;
        self.notes.iter().try_for_each(|note| write!(f, "\n{note}"))?;
        pairs(f, "reshaped", &self.reshaped)?;
        pairs(f, "interpolated", &self.interpolated)?;
        pairs(f, "adapted to the channels of the images (summed or repeated)", &self.adapted)?;
        groups(f, "new in the model", &self.new)?;
        groups(f, "left in the file", &self.left)?;
        names(f, "missing from the file", &self.missing)?;
        names(f, "unexpected in the file", &self.unexpected)?;
        pairs(f, "mismatched", &self.mismatched)
    }
}

fn names(f: &mut fmt::Formatter<'_>, title: &str, names: &[String]) -> fmt::Result {
    if !names.is_empty() {
        write!(f, "\n{} {title}:", names.len())?;
    }
    names.iter().try_for_each(|name| write!(f, "\n  {}", visible(name)))
}

fn groups(f: &mut fmt::Formatter<'_>, title: &str, names: &[String]) -> fmt::Result {
    if names.is_empty() {
        return Ok(());
    }
    let mut groups: Vec<(&str, usize)> = Vec::new();
    for name in names {
        let group = name.split('.').next().unwrap_or_default();
        match groups.iter_mut().find(|(known, _)| *known == group) {
            Some((_, count)) => *count += 1,
            None => groups.push((group, 1)),
        }
    }
    let text = |(group, count): &(&str, usize)| match count {
        1 => visible(group),
        _ => format!("{} ({count})", visible(group)),
    };
    write!(f, "\n{} {title}: {}", names.len(), groups.iter().map(text).collect::<Vec<_>>().join(", "))
}

fn pairs(f: &mut fmt::Formatter<'_>, title: &str, pairs: &[ShapePair]) -> fmt::Result {
    if !pairs.is_empty() {
        write!(f, "\n{} {title}:", pairs.len())?;
    }
    pairs.iter().try_for_each(|ShapePair { name, file, expected }| {
        write!(f, "\n  {name}: file {file:?}, model {expected:?}")
    })
}

/// Compares the names and shapes a model expects with those found in a file.
pub fn match_keys(expected: &[(String, Vec<usize>)], found: &TensorMap) -> KeyReport {
    let mut report = KeyReport::default();
    for (name, shape) in expected {
        let Some(tensor) = found.get(name) else {
            let list = if is_counter(name) { &mut report.new } else { &mut report.missing };
            list.push(name.clone());
            continue;
        };
        let pair = || ShapePair { name: name.clone(), file: tensor.shape.clone(), expected: shape.clone() };
        if tensor.shape == *shape {
            report.loaded.push(name.clone());
        } else if squeezed(&tensor.shape).eq(squeezed(shape)) {
            report.reshaped.push(pair());
        } else {
            report.mismatched.push(pair());
        }
    }
    let known: HashSet<&str> = expected.iter().map(|(name, _)| name.as_str()).collect();
    let unknown = found.names().filter(|name| !known.contains(name)).map(str::to_owned);
    (report.left, report.unexpected) = unknown.partition(|name| is_constant(name));
    report
}

/// Whether it is what checkpoints hold, although it follows from the shape of the model or from the recipe, which
/// official loaders drop, too (mmsegmentation, detectron2); or counts the steps of a moving average (PyTorch's
/// `AveragedModel`).
fn is_constant(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or_default();
    matches!(last, "relative_position_index" | "n_averaged" | "pixel_mean" | "pixel_std")
        || name.contains("anchor_generator.cell_anchors.")
}

/// Whether it counts the batches that a normalisation has seen, which starts at 0 where a file does not tell, as
/// in PyTorch: old files and those of frozen layers do not.
fn is_counter(name: &str) -> bool {
    name.ends_with(".num_batches_tracked")
}

fn squeezed(shape: &[usize]) -> impl Iterator<Item = usize> {
    shape.iter().copied().filter(|&axis| axis != 1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::{DType, HostTensor};

    fn tensor(shape: &[usize]) -> HostTensor {
        let len = shape.iter().product();
        HostTensor::new(DType::U8, shape.to_vec(), vec![0; len]).unwrap()
    }

    fn report() -> KeyReport {
        let found: TensorMap = [
            ("same", tensor(&[2, 3])),
            ("conv", tensor(&[4, 2, 1, 1])),
            ("head", tensor(&[10, 4])),
            ("transposed", tensor(&[3, 2])),
            ("extra", tensor(&[1])),
            ("blocks.0.relative_position_index", tensor(&[4, 4])),
        ]
        .into_iter()
        .collect();
        let expected = [
            ("same", vec![2, 3]),
            ("conv", vec![4, 2]),
            ("head", vec![1000, 4]),
            ("transposed", vec![2, 3]),
            ("absent", vec![7]),
        ]
        .map(|(name, shape)| (name.to_owned(), shape));
        match_keys(&expected, &found)
    }

    #[test]
    fn every_name_is_in_exactly_one_list() {
        let report = report();
        assert_eq!(report.loaded, ["same"]);
        assert_eq!(report.reshaped.iter().map(|p| &p.name).collect::<Vec<_>>(), ["conv"]);
        assert_eq!(report.missing, ["absent"]);
        assert_eq!(report.unexpected, ["extra"]);
        assert_eq!(report.left, ["blocks.0.relative_position_index"]);
        assert_eq!(report.mismatched.iter().map(|p| &p.name).collect::<Vec<_>>(), ["head", "transposed"]);
        assert!(!report.is_exact());
    }

    #[test]
    fn what_is_allowed_is_no_misfit_and_is_told_by_groups() {
        let mut report = report();
        report.allow(|name| ["absent", "head"].contains(&name), |name| name == "extra");
        assert_eq!(
            (report.new.as_slice(), report.left.as_slice()),
            (
                &["absent".to_owned(), "head".into()][..],
                &["blocks.0.relative_position_index".to_owned(), "extra".into()][..]
            )
        );
        assert!(!report.is_exact());
        report.interpolate(|pair| pair.name == "transposed");
        assert!(report.is_exact());
        report.new.push("head.bias".to_owned());
        assert!(
            report
                .to_string()
                .ends_with("3 new in the model: absent, head (2)\n2 left in the file: blocks, extra"),
            "{report}"
        );
    }

    #[test]
    fn what_official_loaders_drop_or_start_anew_is_no_misfit() {
        let names = ["pixel_mean", "rpn.anchor_generator.cell_anchors.0", "n_averaged"];
        let found = names.iter().map(|name| (*name, HostTensor::scalar_i64(0))).collect();
        let report = match_keys(&[("norm.num_batches_tracked".to_owned(), Vec::new())], &found);
        assert!(report.is_exact(), "{report}");
        assert_eq!((report.new.len(), report.left.as_slice()), (1, &names.map(str::to_owned)[..]));
    }

    #[test]
    fn notes_come_first_and_no_name_controls_a_terminal() {
        let mut report = report();
        report.notes.push("3 names taken without `model.`".to_owned());
        report.unexpected.push("\u{1b}]0;x\u{7}".to_owned());
        let text = report.to_string();
        assert!(text.starts_with("1 loaded\n3 names taken without `model.`\n"), "{text}");
        assert!(text.contains("\n  \\u{1b}]0;x\\u{7}\n"), "{text}");
    }

    #[test]
    fn the_report_names_all_mismatches_at_once() {
        assert_eq!(
            report().to_string(),
            "1 loaded\n1 reshaped:\n  conv: file [4, 2, 1, 1], model [4, 2]\n1 left in the file: blocks\n1 missing from the file:\n  absent\n\
             1 unexpected in the file:\n  extra\n2 mismatched:\n  head: file [10, 4], model [1000, 4]\n  \
             transposed: file [3, 2], model [2, 3]"
        );
    }
}
