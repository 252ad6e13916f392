//! The few protobuf messages of an event file (tensorflow/core/util/event.proto, framework/summary.proto).

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
            What::SessionStart => event.message(7, |session| session.varint(1, 1)),
        }
        event.0
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
