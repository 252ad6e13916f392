//! YAML text to [`Node`]s, with the place of each.
//!
//! A recipe is plain YAML 1.2: one document, string keys, no tags, no merge keys. Aliases are allowed and are
//! copies.

use std::borrow::Cow;
use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, StrInput, Tag};
use serde_json::Value;

use super::diagnostics::Finding;
use super::layer::LayerKind;
use super::node::{Content, Entry, Node, Source, Span, position};
use super::{path, scalar};

/// Deeper nesting, or more nodes once aliases are copied, is refused.
pub(super) const MAX_DEPTH: usize = 64;
pub(super) const MAX_NODES: usize = 10_000;

/// Something wrong with the text itself.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TextFault {
    pub key: String,
    pub span: Span,
    pub message: String,
    pub label: String,
    pub help: Option<String>,
}

/// A parsed text. A text with faults still has a node, so that the rest of it can be checked.
#[derive(Debug)]
pub(super) struct Parsed {
    /// `None` for a text without any node.
    pub root: Option<Node>,
    pub faults: Vec<TextFault>,
    /// Paths whose value could not be read; the node holds null there.
    pub broken: Vec<String>,
}

/// What keys may look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keys {
    /// As in a recipe: a dot would make paths ambiguous.
    Plain,
    /// Paths into a recipe are keys, too.
    Dotted,
}

/// Parses one document. An error is a syntax error: nothing can be said about the rest.
pub(super) fn parse(text: &str, form: Keys) -> Result<Parsed, TextFault> {
    let offsets = text.char_indices().map(|(offset, _)| offset).chain([text.len()]).collect();
    let mut composer = Composer {
        text,
        form,
        parser: Parser::new_from_str(text),
        offsets,
        anchors: HashMap::new(),
        nodes: 0,
        keys: Vec::new(),
        faults: Vec::new(),
        broken: Vec::new(),
    };
    let root = composer.document()?;
    Ok(Parsed { root, faults: composer.faults, broken: composer.broken })
}

/// The value of a text in one line, as `--set` reads it.
///
/// # Errors
/// What is wrong with the text.
pub fn inline_value(text: &str) -> Result<Value, String> {
    let document = parse(text, Keys::Plain).map_err(|fault| fault.message)?;
    match document.faults.into_iter().next() {
        Some(fault) => Err(fault.message),
        None => Ok(document.root.map_or(Value::Null, |node| node.to_value())),
    }
}

struct Composer<'t> {
    text: &'t str,
    form: Keys,
    parser: Parser<'t, StrInput<'t>>,
    /// The byte offset of each character.
    offsets: Vec<usize>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    /// Where we are.
    keys: Vec<String>,
    faults: Vec<TextFault>,
    broken: Vec<String>,
}

impl<'t> Composer<'t> {
    fn document(&mut self) -> Result<Option<Node>, TextFault> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(root),
                Event::DocumentStart(_) if root.is_some() => {
                    let message = "a second YAML document starts here".to_owned();
                    let help = "only one document is read: remove the `---`, or split the file".to_owned();
                    return Err(self.fault(span, message, "second document").with_help(help));
                }
                Event::Nothing | Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd => {}
                event => root = Some(self.node(event, span)?),
            }
        }
    }

    fn next(&mut self) -> Result<(Event<'t>, Span), TextFault> {
        let end = self.text.len()..self.text.len();
        match self.parser.next_event() {
            None => Ok((Event::StreamEnd, end)),
            Some(Ok((event, span))) => {
                Ok((event, self.offset(span.start.index())..self.offset(span.end.index())))
            }
            Some(Err(error)) => {
                let at = self.offset(error.marker().index());
                Err(self.syntax_error(at, error.info()))
            }
        }
    }

    fn offset(&self, index: usize) -> usize {
        self.offsets.get(index).copied().unwrap_or(self.text.len())
    }

    /// A line such as `name:tiny`, which is a text and no key, where an error is noticed or just before.
    fn key_without_space(&self, at: usize) -> Option<Span> {
        let line_start = |end: usize| self.text[..end].rfind('\n').map_or(0, |newline| newline + 1);
        let before = self.text[..line_start(at)].trim_end().len();
        [line_start(at), line_start(before)].into_iter().find_map(|start| {
            let line = self.text[start..].lines().next()?;
            let (text, indent) = (line.trim(), line.len() - line.trim_start().len());
            let (key, value) = text.split_once(':')?;
            let is_word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
            let is_key = !key.is_empty() && key.chars().all(is_word);
            let is_close = !value.is_empty() && !value.starts_with([' ', '/', ':']);
            (is_key && is_close).then(|| start + indent..start + indent + text.len())
        })
    }

    fn syntax_error(&self, at: usize, info: &str) -> TextFault {
        // An error at the end of the text is shown at its last character: after it there is nothing to point
        // at.
        let last = self.text.trim_end().char_indices().next_back();
        let end = last.filter(|_| self.text[at..].trim_end().is_empty());
        let span = end.map_or(at..at, |(last, letter)| last..last + letter.len_utf8());
        let at = span.start;
        if let Some(span) = self.key_without_space(at) {
            let help = format!("write `{}`", self.text[span.clone()].replacen(':', ": ", 1));
            let message = format!("not valid YAML: {info}");
            return self.fault(span, message, "a space belongs behind the colon").with_help(help);
        }
        let fault = self.fault(span, format!("not valid YAML: {info}"), "here");
        let line_start = self.text[..at].rfind('\n').map_or(0, |newline| newline + 1);
        let line = self.text[line_start..].lines().next().unwrap_or_default();
        if line.contains("${") {
            return fault
                .with_help("inside `{ }` and `[ ]` a reference needs quotes: \"${.key}\"".to_owned());
        }
        if line[..line.len() - line.trim_start().len()].contains('\t') {
            return fault.with_help("indent with spaces, not with tabs".to_owned());
        }
        if info.contains("':'") || info.contains("mapping values") {
            let help = "a bracket or a quote may be open above; text with a colon needs quotes".to_owned();
            return fault.with_help(help);
        }
        let help = if info.contains("anchor") {
            "`*name` repeats what `&name` marks above it"
        } else if info.contains("flow") {
            "a `{` or `[` takes items with commas between them, and its `}` or `]`"
        } else {
            "the keys of a block begin in one column, those of an inner block further right, items of a list with `- `"
        };
        fault.with_help(help.to_owned())
    }

    fn node(&mut self, event: Event<'t>, span: Span) -> Result<Node, TextFault> {
        self.nodes += 1;
        if self.nodes > MAX_NODES || self.keys.len() > MAX_DEPTH {
            let limit = format!("more than {MAX_NODES} values, or {MAX_DEPTH} levels");
            return Err(self.fault(span, format!("the file is too large: {limit}"), "too large"));
        }
        let (content, anchor, tag) = match event {
            Event::Alias(anchor) => return self.alias(anchor, span),
            Event::Scalar(text, style, anchor, tag) => (self.scalar(text, style, &span), anchor, tag),
            Event::SequenceStart(anchor, tag) => (self.list()?, anchor, tag),
            Event::MappingStart(anchor, tag) => (self.map()?, anchor, tag),
            _ => return Err(self.fault(span, "not valid YAML: expected a value".to_owned(), "here")),
        };
        let (content, end) = match content {
            Content::Scalar(_) => (content, span.end),
            // The end event of a block stands on the line after it; the last child ends where the block does.
            Content::List(ref items) => {
                let end = items.last().map_or(span.end, |item| item.span.end);
                (content, end)
            }
            Content::Map(ref entries) => {
                let end = entries.last().map_or(span.end, |entry| entry.value.span.end);
                (content, end)
            }
        };
        let node = Node { span: span.start..end.max(span.start), content };
        self.check_tag(tag.as_deref(), &node.span);
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn scalar(&mut self, text: Cow<'_, str>, style: ScalarStyle, span: &Span) -> Content {
        let value = if style == ScalarStyle::Plain {
            scalar::plain(&text).unwrap_or_else(|reason| {
                self.broken_value(span.clone(), reason.to_owned(), "not a value");
                Value::Null
            })
        } else {
            Value::String(text.into_owned())
        };
        Content::Scalar(value)
    }

    fn list(&mut self) -> Result<Content, TextFault> {
        let mut items = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::SequenceEnd | Event::StreamEnd) {
                return Ok(Content::List(items));
            }
            self.keys.push(items.len().to_string());
            items.push(self.node(event, span)?);
            self.keys.pop();
        }
    }

    fn map(&mut self) -> Result<Content, TextFault> {
        let mut entries: Vec<Entry> = Vec::new();
        // Where each key begins.
        let mut seen: HashMap<String, usize> = HashMap::new();
        loop {
            let (event, key_span) = self.next()?;
            if matches!(event, Event::MappingEnd | Event::StreamEnd) {
                return Ok(Content::Map(entries));
            }
            let key = self.key(event, key_span.clone())?;
            self.keys.push(key.clone().unwrap_or_else(|| "?".to_owned()));
            let (event, span) = self.next()?;
            let value = self.node(event, span)?;
            self.keys.pop();
            let Some(key) = key else { continue };
            if let Some(&first) = seen.get(&key) {
                let (line, _) = position(self.text, first);
                self.keys.push(key);
                let fault = self.fault(key_span, "the key is given twice".to_owned(), "given again here");
                self.faults.push(
                    fault.with_help(format!("it is first given on line {line}; remove one of the two")),
                );
                self.keys.pop();
                continue;
            }
            seen.insert(key.clone(), key_span.start);
            entries.push(Entry { key, key_span, value });
        }
    }

    /// A usable key, or `None` when it was refused (the reason is among the faults).
    fn key(&mut self, event: Event<'t>, span: Span) -> Result<Option<String>, TextFault> {
        let Event::Scalar(text, style, _, tag) = event else {
            let fault = self.fault(span.clone(), "a key must be a string".to_owned(), "not a string");
            self.faults.push(fault);
            // It may nest as values do, and counts towards the depth as they do.
            self.keys.push("?".to_owned());
            self.node(event, span)?;
            self.keys.pop();
            return Ok(None);
        };
        self.check_tag(tag.as_deref(), &span);
        let plain = style == ScalarStyle::Plain;
        let refusal = if plain && text == "<<" {
            Some((
                "merge keys (`<<`) are not supported",
                "put what is shared into a file and name it in `extends`",
            ))
        } else if plain && !matches!(scalar::plain(&text), Ok(Value::String(_))) {
            Some(("a key must be a string", "put quotes around it if this is meant"))
        } else if text.is_empty() {
            Some(("a key must not be empty", "give it a name"))
        } else if self.form == Keys::Plain && text.contains('.') {
            Some((
                "a key must not contain a dot",
                "write nested blocks, one key a line; names with dots are values, as in `{ from: a.b, to: c }`",
            ))
        } else {
            None
        };
        let Some((message, help)) = refusal else { return Ok(Some(text.into_owned())) };
        let label = format!("the key `{text}`");
        let fault = self.fault(span, message.to_owned(), &label).with_help(help.to_owned());
        self.faults.push(fault);
        Ok(None)
    }

    fn alias(&mut self, anchor: usize, span: Span) -> Result<Node, TextFault> {
        let Some(node) = self.anchors.get(&anchor).cloned() else {
            self.broken_value(span.clone(), "the alias stands inside of what it names".to_owned(), "alias");
            return Ok(Node::null(span));
        };
        self.nodes += node.count();
        if self.nodes > MAX_NODES {
            return Err(self.fault(span, "the aliases expand to too many values".to_owned(), "too large"));
        }
        Ok(node)
    }

    fn check_tag(&mut self, tag: Option<&Tag>, span: &Span) {
        if let Some(tag) = tag {
            let name = if tag.is_yaml_core_schema() { format!("!!{}", tag.suffix) } else { tag.to_string() };
            let message = format!("YAML tags are not supported (`{name}`)");
            let help = "remove the tag; quotes make a string, and components are named by `type:`".to_owned();
            let fault = self.fault(span.clone(), message, "tagged value").with_help(help);
            self.faults.push(fault);
            self.broken.push(self.here());
        }
    }

    fn broken_value(&mut self, span: Span, message: String, label: &str) {
        let fault = self.fault(span, message, label);
        self.faults.push(fault);
        self.broken.push(self.here());
    }

    fn here(&self) -> String {
        self.keys.iter().fold(String::new(), |path, key| path::join(&path, key))
    }

    fn fault(&self, span: Span, message: String, label: &str) -> TextFault {
        TextFault { key: self.here(), span, message, label: label.to_owned(), help: None }
    }
}

impl TextFault {
    /// The fault in the text it was found in.
    pub fn found(self, kind: &LayerKind, source: &Source) -> Finding {
        Finding {
            key: self.key,
            message: self.message,
            help: self.help,
            origin: Some(kind.clone()),
            label: self.label,
            source: Some((source.clone(), self.span)),
        }
    }

    fn with_help(self, help: String) -> Self {
        Self { help: Some(help), ..self }
    }
}
