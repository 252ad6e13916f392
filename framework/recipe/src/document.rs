//! YAML files that are no recipes but name keys of them: sweeps, tables. Read and checked as recipes are.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use miette::NamedSource;
use serde_json::Value;

use super::catalog::Catalog;
use super::diagnostics::{Diagnostics, Fault, Finding, Place, Problem};
use super::files::{clean, decode, read, unreadable};
use super::layer::{Layer, LayerKind};
use super::node::{Content, Located, Node, Source};
use super::provenance::span_of;
use super::yaml::{self, Keys, TextFault};
use super::{path, schema};

/// A valid YAML file in which every value knows its line.
///
/// Keys may be dotted paths (`model.mask.type: [..]`). A place in the file is named by the keys that lead
/// there, joined by dots.
#[derive(Debug, Clone)]
pub struct Document {
    path: PathBuf,
    layer: Layer,
    value: Value,
}

impl Document {
    /// Reads a file and checks it against the root schema of the catalog.
    ///
    /// # Errors
    /// Everything wrong with the file, each with its line.
    pub fn read(file: &Path, catalog: &Catalog) -> Result<Self, Diagnostics> {
        let name = clean(file);
        let refuse = |findings| Diagnostics { recipe: name.display().to_string(), findings };
        let bytes = read(file).map_err(|error| refuse(vec![unreadable(file, &name, &error, None)]))?;
        let kind = LayerKind::File(name.clone());
        let (text, fault) = decode(bytes);
        let source: Source = Arc::new(NamedSource::new(name.to_string_lossy(), text).with_language("YAML"));
        let locate = |fault: TextFault| fault.found(&kind, &source);
        if let Some(fault) = fault {
            return Err(refuse(vec![locate(fault)]));
        }
        let parsed =
            yaml::parse(source.inner(), Keys::Dotted).map_err(|fault| refuse(vec![locate(fault)]))?;
        let mut findings: Vec<_> = parsed.faults.into_iter().map(locate).collect();
        let root = match parsed.root {
            Some(root @ Node { content: Content::Map(_), .. }) => root,
            root => return Err(refuse(vec![locate(not_a_mapping(root.as_ref(), catalog.subject()))])),
        };
        let value = root.to_value();
        let layer = Layer { kind: kind.clone(), source: source.clone(), root, override_depth: 0 };
        let document = Self { path: file.to_path_buf(), layer, value };
        let broken: HashSet<_> = parsed.broken.into_iter().collect();
        let faults = schema::check(&document.value, catalog, &broken);
        findings.extend(faults.into_iter().map(|fault| document.locate(fault)));
        if findings.is_empty() { Ok(document) } else { Err(document.refuse(findings)) }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the file says, keys in their order.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// Problems that a later check found, at their lines.
    pub fn diagnose(&self, problems: Vec<Problem>) -> Diagnostics {
        self.refuse(problems.into_iter().map(|problem| self.find(problem)).collect())
    }

    /// A problem, at its line.
    pub fn find(&self, problem: Problem) -> Finding {
        self.locate(Fault::from(problem))
    }

    /// A problem with a key rather than with its value, at its line.
    pub fn find_key(&self, problem: Problem) -> Finding {
        self.locate(Fault::from(problem).at(Place::Key))
    }

    /// Findings as one report, in the order of their lines; what is the same is said once. Findings of other
    /// files come last.
    pub fn refuse(&self, mut findings: Vec<Finding>) -> Diagnostics {
        let rank = |finding: &Finding| match &finding.source {
            Some((source, span)) if Arc::ptr_eq(source, &self.layer.source) => span.start,
            _ => usize::MAX,
        };
        findings.sort_by_key(rank);
        Diagnostics { recipe: clean(&self.path).display().to_string(), findings }
    }

    /// Problems that are not of this file, by themselves.
    pub fn refuse_apart(&self, problems: Vec<Problem>) -> Diagnostics {
        self.refuse(problems.into_iter().map(Finding::from).collect())
    }

    /// What a recipe's check found wrong with a `--set` argument that stands for a value of this file, shown
    /// at its line here.
    pub fn adopt(&self, finding: Finding, place: &str) -> Finding {
        let is_key = match (&finding.origin, &finding.source) {
            (Some(LayerKind::Set(argument)), Some((source, span))) => {
                let key = argument.split_once('=').map_or(argument.as_str(), |(key, _)| key);
                source.inner().find(key).is_some_and(|start| span.start < start + key.len())
            }
            _ => false,
        };
        let Some((at, place)) = self.keyed(place, is_key) else { return finding };
        let span = span_of(&place, at, self.layer.source.inner());
        let (origin, source) = (Some(self.layer.kind.clone()), Some((self.layer.source.clone(), span)));
        Finding { origin, source, ..finding }
    }

    /// A place, or the nearest key around it.
    fn keyed(&self, place: &str, is_key: bool) -> Option<(Located<'_>, Place)> {
        let mut place = place;
        loop {
            match locate(&self.layer.root, place) {
                Some(at) if !is_key => return Some((at, Place::Value)),
                Some(at) if at.key_span.is_some() => return Some((at, Place::Key)),
                _ => place = path::split_last(place)?.0,
            }
        }
    }

    /// The fault at its place, or at the nearest block around it.
    fn locate(&self, fault: Fault) -> Finding {
        let places = std::iter::successors(Some(fault.problem.key.as_str()), |place| {
            path::split_last(place).map(|(parent, _)| parent)
        });
        let found = places
            .skip(usize::from(fault.place == Place::Missing))
            .find_map(|place| locate(&self.layer.root, place));
        let at = found.unwrap_or(Located { key_span: None, node: &self.layer.root });
        let span = span_of(&fault.place, at, self.layer.source.inner());
        fault.found(&self.layer, span)
    }
}

/// The node at a path of keys that may have dots themselves: the longest key that fits is meant.
fn locate<'n>(root: &'n Node, place: &str) -> Option<Located<'n>> {
    let mut at = Located { key_span: None, node: root };
    let mut rest = place;
    while !rest.is_empty() {
        let (next, used) = match &at.node.content {
            Content::Map(entries) => {
                let fits = entries.iter().filter(|entry| path::is_within(rest, &entry.key));
                let entry = fits.max_by_key(|entry| entry.key.len())?;
                (Located { key_span: Some(&entry.key_span), node: &entry.value }, entry.key.len())
            }
            Content::List(items) => {
                let index = rest.split('.').next().unwrap_or(rest);
                (Located { key_span: None, node: items.get(index.parse::<usize>().ok()?)? }, index.len())
            }
            Content::Scalar(_) => return None,
        };
        at = next;
        rest = rest[used..].strip_prefix('.').unwrap_or_default();
    }
    Some(at)
}

fn not_a_mapping(root: Option<&Node>, subject: &str) -> TextFault {
    TextFault {
        key: String::new(),
        span: root.map_or(0..0, |node| node.span.clone()),
        message: format!("a {subject} is a mapping of keys to values"),
        label: if root.is_some() { "not a mapping" } else { "nothing here" }.to_owned(),
        help: None,
    }
}
