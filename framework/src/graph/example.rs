//! Batches that a model can be trained on without data.

use rand::Rng as _;

use super::model::Model;
use crate::component::{ImageShape, Task};
use crate::data::{Batch, Normalization, Target};
use crate::experiment::NodeKind;
use crate::nn::{Images, Pixels};
use crate::random::{self, Purpose};

impl Model {
    /// Images of random pixels, with the targets that the heads are trained on.
    pub fn example(&self, count: usize, seed: u64) -> Batch {
        let ImageShape { channels, height, width } = self.image;
        let target = |index: usize| {
            let mut target = Target::default();
            for built in self.nodes() {
                match &built.planned.node.kind {
                    NodeKind::Head(head, _) => head.example(index, self.image, &mut target),
                    NodeKind::InstanceHead(head, _) => {
                        let classes = head.classes().unwrap_or(1);
                        Task::Detect { classes }.example(index, self.image, &mut target);
                    }
                    _ => {}
                }
            }
            target
        };
        let mut rng = random::stream(Purpose::Image, &[seed]);
        let pixels: Vec<u8> = (0..count * channels * height * width).map(|_| rng.random()).collect();
        let normalization = Normalization { mean: vec![0.5; channels], std: vec![0.25; channels] };
        let pixels = Pixels::Bytes(pixels.into(), normalization.clone());
        let batch = Batch::new(
            Vec::new(),
            (height, width),
            normalization,
            (0..count).map(target).collect(),
            (0..count).map(|image| format!("random[{image}]")).collect(),
        );
        Batch { images: Images::new(pixels, batch.images.shape()), ..batch }
    }
}
