//! The few protobuf messages of an event file (tensorflow/core/util/event.proto, framework/summary.proto, and
//! `tensorboard/plugins/hparams/plugin_data.proto`).

use serde_json::Value;

/// Something that happened at a step.
#[derive(Debug)]
pub(super) struct Event {
    /// Seconds since 1970.
    pub(super) wall_time: f64,
    /// Optimizer steps taken.
    pub(super) step: u64,
    pub(super) what: What,
}

/// What happened.
#[derive(Debug)]
pub(super) enum What {
    /// A file begins; the first event of each.
    FileVersion,
    /// A session begins: what was logged from this step on, in earlier files, no longer counts.
    SessionStart,
    /// Figures by tag.
    Scalars(Vec<(String, f32)>),
    /// Pictures.
    Images(Vec<Image>),
    /// A text, in Markdown, by tag.
    Text(String, String),
    /// What the run was set to, of which numbers, texts and booleans are told, sorted by name.
    HyperParameters(Vec<(String, Value)>),
}

/// A picture of a summary.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) tag: String,
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) png: Vec<u8>,
}

impl Event {
    /// The message `Event`.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut event = Message::default();
        event.fixed64(1, self.wall_time.to_bits());
        // A default is not written.
        if self.step > 0 {
            event.varint(2, self.step);
        }
        match &self.what {
            What::FileVersion => event.bytes(3, b"brain.Event:2"),
            What::Scalars(scalars) => event.message(5, |summary| {
                for (tag, value) in scalars {
                    summary.message(1, |scalar| {
                        scalar.bytes(1, tag.as_bytes());
                        scalar.fixed32(2, value.to_bits());
                    });
                }
            }),
            What::Images(images) => event.message(5, |summary| {
                images.iter().for_each(|image| summary.message(1, |value| image.encode(value)));
            }),
            What::Text(tag, text) => event.message(5, |summary| {
                summary.message(1, |value| {
                    value.bytes(1, tag.as_bytes());
                    value.message(8, |tensor| {
                        tensor.varint(1, TEXT);
                        // Of one dimension, of one text.
                        tensor.message(2, |shape| shape.message(2, |dimension| dimension.varint(1, 1)));
                        tensor.bytes(8, text.as_bytes());
                    });
                    value.message(9, |metadata| metadata.message(1, |plugin| plugin.bytes(1, b"text")));
                });
            }),
            What::HyperParameters(parameters) => event.message(5, |summary| {
                summary.message(1, |value| {
                    value.bytes(1, b"_hparams_/session_start_info");
                    value.message(9, |metadata| {
                        metadata.message(1, |plugin| {
                            plugin.bytes(1, b"hparams");
                            plugin.message(2, |data| {
                                data.message(3, |session| hyper_parameters(session, parameters));
                            });
                        });
                    });
                });
            }),
            What::SessionStart => event.message(7, |session| session.varint(1, 1)),
        }
        event.0
    }
}

/// The data type of texts (tensorflow/core/framework/types.proto).
const TEXT: u64 = 7;
/// The colour space of RGB.
const RGB: u64 = 3;

impl Image {
    fn encode(&self, value: &mut Message) {
        value.bytes(1, self.tag.as_bytes());
        value.message(4, |image| {
            image.varint(1, u64::from(self.height));
            image.varint(2, u64::from(self.width));
            image.varint(3, RGB);
            image.bytes(4, &self.png);
        });
    }
}

/// The mapping of a `SessionStartInfo`, from names to values as google/protobuf/struct.proto has them.
fn hyper_parameters(session: &mut Message, parameters: &[(String, Value)]) {
    for (name, value) in parameters {
        let write = |of: &mut Message| match value {
            Value::Number(number) => of.fixed64(2, number.as_f64().unwrap_or(f64::NAN).to_bits()),
            Value::String(text) => of.bytes(3, text.as_bytes()),
            Value::Bool(flag) => of.varint(4, u64::from(*flag)),
            Value::Null | Value::Array(_) | Value::Object(_) => of.varint(1, 0),
        };
        session.message(1, |entry| {
            entry.bytes(1, name.as_bytes());
            entry.message(2, write);
        });
    }
}

/// A message under construction; fields are written in the order of their numbers, all of them below 16.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, field: u8, value: u64) {
        self.0.push(field << 3);
        self.length(value);
    }

    fn fixed64(&mut self, field: u8, bits: u64) {
        self.0.push(field << 3 | 1);
        self.0.extend(bits.to_le_bytes());
    }

    fn fixed32(&mut self, field: u8, bits: u32) {
        self.0.push(field << 3 | 5);
        self.0.extend(bits.to_le_bytes());
    }

    fn bytes(&mut self, field: u8, bytes: &[u8]) {
        self.0.push(field << 3 | 2);
        self.length(bytes.len() as u64);
        self.0.extend(bytes);
    }

    fn message(&mut self, field: u8, fill: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        fill(&mut inner);
        self.bytes(field, &inner.0);
    }

    /// Seven bits a byte, the lowest first; the highest bit says that more follow.
    fn length(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::record;
    use super::*;

    /// What the record writer and the messages of `TensorBoard` make of the same events
    /// (tests/data/README.md).
    const GOLDEN: &[u8] = include_bytes!("../../../../tests/data/report/tensorboard.tfevents");

    /// As [`GOLDEN`].
    const PLUGINS: &[u8] = include_bytes!("../../../../tests/data/report/tensorboard_plugins.tfevents");

    #[test]
    fn pictures_texts_and_hyper_parameters_are_the_bytes_that_tensorboard_writes() {
        let png = b"\x89PNG\r\n\x1a\n".to_vec();
        let image = Image { tag: "image 1/original".to_owned(), width: 300, height: 2, png };
        let parameters = [("fused", Value::Bool(true)), ("lr", 1e-3.into()), ("mask", "Block".into())];
        let parameters = parameters.map(|(name, value)| (name.to_owned(), value)).to_vec();
        let events = [
            (1_700_000_005.0, 20, What::Images(vec![image])),
            (1_700_000_006.0, 0, What::Text("recipe".to_owned(), "    a: 1\n".to_owned())),
            (1_700_000_007.0, 0, What::HyperParameters(parameters)),
        ];
        let mut file = Vec::new();
        for (wall_time, step, what) in events {
            record::write(&mut file, &Event { wall_time, step, what }.encode()).unwrap();
        }
        assert_eq!(file, PLUGINS);
    }

    #[test]
    fn events_are_the_bytes_that_tensorboard_writes() {
        let scalars = |scalars: &[(&str, f32)]| {
            What::Scalars(scalars.iter().map(|(tag, value)| ((*tag).to_owned(), *value)).collect())
        };
        let events = [
            (1_700_000_000.25, 0, What::FileVersion),
            (1_700_000_000.5, 1, What::SessionStart),
            (1_700_000_001.0, 1, scalars(&[("train/loss", 2.5)])),
            (1_700_000_002.0, 300, scalars(&[("train/loss", 0.1), ("train/lr", 1e-4), ("näme", 0.0)])),
            (1_700_000_003.0, 1 << 40, scalars(&[("val/loss", f32::INFINITY), ("val/top1", -1.0)])),
            (1_700_000_004.0, 70_000, scalars(&[])),
        ];
        let mut file = Vec::new();
        for (wall_time, step, what) in events {
            record::write(&mut file, &Event { wall_time, step, what }.encode()).unwrap();
        }
        assert_eq!(file, GOLDEN);
    }
}
