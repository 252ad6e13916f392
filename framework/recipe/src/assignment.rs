//! Layers of one key each: environment variables, `--set`, and arguments that are called as their key.

use std::sync::Arc;

use miette::NamedSource;

use super::files::Layers;
use super::layer::{Layer, LayerKind};
use super::node::{Content, Entry, Node, Source, Span};
use super::yaml::{self, Keys, TextFault};

/// `CONVMAE_DATA__PREFETCH=4` sets `data.prefetch`.
pub(super) const PREFIX: &str = "CONVMAE_";

impl Layers {
    /// Adds environment variables, in the order of their names. Others than `CONVMAE_..` are ignored.
    pub fn environment(&mut self, variables: &[(String, String)]) {
        let mut variables: Vec<_> = variables
            .iter()
            .filter_map(|(name, value)| Some((name, name.strip_prefix(PREFIX)?, value)))
            .collect();
        variables.sort_unstable();
        for (name, keys, value) in variables {
            let text = format!("{name}={value}");
            self.assign(&Assignment {
                kind: LayerKind::Environment(name.clone()),
                source: Arc::new(NamedSource::new(format!("environment variable {name}"), text)),
                key: PREFIX.len()..PREFIX.len() + keys.len(),
                separator: "__",
                form: "CONVMAE_SECTION__KEY=value",
            });
        }
    }

    /// Adds the arguments of `--set`, in their order.
    pub fn set(&mut self, arguments: &[String]) {
        const FLAG: &str = "--set ";
        for argument in arguments {
            let key = argument.split_once('=').map_or(argument.as_str(), |(key, _)| key);
            self.assign(&Assignment {
                kind: LayerKind::Set(argument.clone()),
                source: Arc::new(NamedSource::new("command line", format!("{FLAG}{argument}"))),
                key: FLAG.len()..FLAG.len() + key.len(),
                separator: ".",
                form: "--set section.key=value",
            });
        }
    }

    /// Adds arguments that are called as the key they set.
    pub fn flags(&mut self, flags: &[(&str, String)]) {
        const DASHES: &str = "--";
        for (key, value) in flags {
            let argument = format!("{DASHES}{key} {value}");
            self.assign(&Assignment {
                kind: LayerKind::Flag(argument.clone()),
                source: Arc::new(NamedSource::new("command line", argument)),
                key: DASHES.len()..DASHES.len() + key.len(),
                separator: ".",
                form: "--key value",
            });
        }
    }

    fn assign(&mut self, assignment: &Assignment) {
        match assignment.read(self) {
            Ok(layer) => self.stack.push(layer),
            Err(fault) => self.refuse(fault.found(&assignment.kind, &assignment.source)),
        }
    }
}

/// `<key>=<value>` in a text, or `<key> <value>`.
struct Assignment {
    kind: LayerKind,
    source: Source,
    key: Span,
    separator: &'static str,
    form: &'static str,
}

impl Assignment {
    fn read(&self, out: &mut Layers) -> Result<Layer, TextFault> {
        let text = self.source.inner();
        let start = self.key.end + 1;
        let Some(value) = text.get(start..) else {
            return Err(self.malformed("there is no `=`"));
        };
        if text.contains(char::REPLACEMENT_CHARACTER) {
            return Err(self.malformed("the text is not UTF-8"));
        }
        let keys = self.keys()?;
        let shift = |mut fault: TextFault| {
            let key = keys.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>().join(".");
            fault.key = if fault.key.is_empty() { key } else { format!("{key}.{}", fault.key) };
            fault.span = fault.span.start + start..fault.span.end + start;
            fault
        };
        let document = yaml::parse(value, Keys::Plain).map_err(shift)?;
        let faults = document.faults.into_iter().map(|fault| shift(fault).found(&self.kind, &self.source));
        out.findings.extend(faults);
        let override_path = keys.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>().join(".");
        out.broken.extend(document.broken.iter().map(|key| super::path::join(&override_path, key)));
        let mut node = document.root.unwrap_or_else(|| Node::null(0..0));
        shift_node(&mut node, start);
        let override_depth = keys.len();
        let root = keys.into_iter().rev().fold(node, |value, (key, key_span)| Node {
            span: key_span.start..value.span.end,
            content: Content::Map(vec![Entry { key, key_span, value }]),
        });
        Ok(Layer { kind: self.kind.clone(), source: self.source.clone(), root, override_depth })
    }

    /// The keys and their places. Those of an environment variable are in lower case.
    fn keys(&self) -> Result<Vec<(String, Span)>, TextFault> {
        let text = &self.source.inner()[self.key.clone()];
        let mut at = self.key.start;
        let mut keys = Vec::new();
        for part in text.split(self.separator) {
            if part.trim().is_empty() {
                return Err(self.malformed("a key is empty"));
            }
            let key = match self.kind {
                LayerKind::Environment(_) => part.to_lowercase(),
                _ => part.to_owned(),
            };
            keys.push((key, at..at + part.len()));
            at += part.len() + self.separator.len();
        }
        if keys.iter().any(|(key, _)| key.contains('.')) {
            return Err(self.malformed("a key contains a dot"));
        }
        if keys.len() > yaml::MAX_DEPTH {
            return Err(self.malformed("the key has too many levels"));
        }
        if keys[0].0 == "extends" {
            return Err(self.malformed("`extends` can only be given in a file"));
        }
        Ok(keys)
    }

    fn malformed(&self, reason: &str) -> TextFault {
        TextFault {
            key: String::new(),
            span: self.key.clone(),
            message: format!("cannot use `{}`: {reason}", self.source.inner()),
            label: reason.to_owned(),
            help: Some(format!("write `{}`", self.form)),
        }
    }
}

fn shift_node(node: &mut Node, by: usize) {
    let shift = |span: &mut Span| *span = span.start + by..span.end + by;
    shift(&mut node.span);
    match &mut node.content {
        Content::Scalar(_) => {}
        Content::List(items) => items.iter_mut().for_each(|item| shift_node(item, by)),
        Content::Map(entries) => {
            for entry in entries {
                shift(&mut entry.key_span);
                shift_node(&mut entry.value, by);
            }
        }
    }
}
