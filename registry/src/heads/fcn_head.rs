//! The auxiliary head of semantic segmentation.

use convmae_framework::component::{
    Features, Head, HeadInputs, HeadModule, Loss, Macs, Prediction, Problem, Task,
};
use convmae_framework::data::Batch;
use convmae_framework::nn::layers::ConvModule;
use convmae_framework::nn::{self, Context, Scope, Tensor, ops};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::pixel_classifier::{PixelClassifier, prediction};
use super::unmasked_levels;
use crate::checks;

/// Tells the class of every pixel from one level by a few convolutions (`FCNHead` of mmsegmentation; Long et
/// al. 2015). Beside a `UperHead` it is an auxiliary loss: `from: backbone.s3`, `loss_weight: 0.4`,
/// `auxiliary: true`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FcnHead {
    /// Classes to tell apart: as many as the label maps have.
    #[schemars(range(min = 1, max = 255))]
    pub num_classes: usize,
    /// Channels of the convolutions.
    #[serde(default = "default_channels")]
    #[schemars(range(min = 1, max = 65536))]
    pub channels: usize,
    /// Convolutions before the classifier.
    #[serde(default = "one")]
    #[schemars(range(max = 64))]
    pub num_convs: usize,
    /// Side of the convolutions' kernels; odd.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 31))]
    pub kernel_size: usize,
    /// Whether the level itself is put beside the last convolution's output, and another convolution follows.
    #[serde(default)]
    pub concat_input: bool,
    /// Probability to drop a channel before the classifier, in training.
    #[serde(default = "default_dropout")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub dropout: f32,
    /// Weight of each class in the loss; 1 if left out (`class_weight` of mmsegmentation's `CrossEntropyLoss`).
    /// The sum over the pixels is divided by their number, whatever they weigh.
    #[serde(default)]
    #[schemars(extend("examples" = [[0.1, 1.0, 1.0]]))]
    pub class_weight: Option<Vec<f32>>,
    /// Whether the statistics of BatchNorm are shared among processes (`SyncBN`). A single process has none
    /// to share them with.
    #[serde(default)]
    pub sync: bool,
}

fn default_channels() -> usize {
    256
}

fn one() -> usize {
    1
}

fn three() -> usize {
    3
}

fn default_dropout() -> f32 {
    0.1
}

#[typetag::serde]
impl Head for FcnHead {
    fn task(&self) -> Task {
        Task::Segment { classes: self.num_classes }
    }

    fn build(&self, scope: &Scope, inputs: &HeadInputs) -> Result<Box<dyn HeadModule>, Problem> {
        let (level, others) = unmasked_levels(inputs)?;
        if !others.is_empty() {
            return Err(Problem::new(
                "from",
                format!("it takes one level, and gets {}", inputs.levels.len()),
            )
            .help(format!("name one, such as `from: backbone.{}`", level.name)));
        }
        if self.kernel_size.is_multiple_of(2) {
            return Err(Problem::new("kernel_size", format!("{} is even", self.kernel_size))
                .help("an odd kernel has a centre: 1, 3, 5, ..."));
        }
        if self.num_convs == 0 && level.channels != self.channels {
            let message =
                format!("without convolutions the channels stay {}, not {}", level.channels, self.channels);
            return Err(Problem::new("channels", message).help("set it to the level's, or add a convolution"));
        }
        let class_weight = checks::class_weight(self.class_weight.as_deref(), self.num_classes)?;
        let module = |scope: &Scope, inputs: usize| {
            ConvModule::new(scope, inputs, self.channels, self.kernel_size).sync(self.sync)
        };
        let conv = |at: usize| {
            let inputs = if at == 0 { level.channels } else { self.channels };
            module(&scope.child("convs").child(at), inputs)
        };
        let cat = || module(&scope.child("conv_cat"), level.channels + self.channels);
        Ok(Box::new(FcnModule {
            convs: (0..self.num_convs).map(conv).collect(),
            conv_cat: self.concat_input.then(cat),
            classifier: PixelClassifier::new(scope, self.channels, self.num_classes, self.dropout)
                .weighted(class_weight),
            positions: level.positions(),
        }))
    }
}

convmae_framework::register!(Head: FcnHead);

struct FcnModule {
    convs: Vec<ConvModule>,
    conv_cat: Option<ConvModule>,
    classifier: PixelClassifier,
    positions: usize,
}

impl FcnModule {
    fn logits(&self, features: &Features, ctx: &Context) -> nn::Result<Tensor> {
        let Some(level) = features.levels.first() else {
            return Err(nn::Error::Value("no features reach this head".to_owned()));
        };
        let input = level.maps()?;
        let mut x = self.convs.iter().try_fold(input.clone(), |x, conv| conv.forward(x, ctx))?;
        if let Some(conv_cat) = &self.conv_cat {
            x = conv_cat.forward(ops::concat_channels(vec![input, x])?, ctx)?;
        }
        self.classifier.logits(x, ctx)
    }
}

impl HeadModule for FcnModule {
    fn macs(&self) -> Macs {
        let convs: u64 = self.convs.iter().chain(&self.conv_cat).map(|conv| conv.macs(self.positions)).sum();
        Macs::same(convs + self.classifier.macs(self.positions))
    }

    fn loss(&self, features: &Features, batch: &Batch, ctx: &Context) -> nn::Result<Vec<Loss>> {
        self.classifier.losses(self.logits(features, ctx)?, batch)
    }

    fn predict(&self, features: &Features, batch: &Batch, ctx: &Context) -> nn::Result<Prediction> {
        prediction(self.logits(features, ctx)?, batch)
    }
}

#[cfg(test)]
mod tests {
    use convmae_framework::component::{ImageShape, Level, LevelShape, Semantic};
    use convmae_framework::data::{Normalization, Target};
    use convmae_framework::nn::Tape;
    use convmae_framework::random::{Purpose, stream};
    use serde_json::{Value, json};

    use super::*;

    /// 2 x 3 patches of 2 x 2 positions, four channels.
    fn level() -> LevelShape {
        let (rows, cols, kept, cell) = (2, 3, 6, 2);
        LevelShape { name: "s2".to_owned(), rows, cols, kept, cell, prefix_tokens: 1, channels: 4, stride: 2 }
    }

    /// Names and shapes.
    type Weights = Vec<(String, Vec<usize>)>;

    fn build(fields: &Value, levels: usize) -> Result<(Box<dyn HeadModule>, Weights), Problem> {
        let mut spec = json!({ "type": "FcnHead", "num_classes": 3, "channels": 5 });
        spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let head: Box<dyn Head> = serde_json::from_value(spec).unwrap();
        let image = ImageShape { channels: 3, height: 8, width: 12 };
        let scope = Scope::new(0);
        let module = head.build(&scope, &HeadInputs { image, levels: vec![level(); levels], mask: None })?;
        let weights = scope.params().into_iter().filter(|param| param.name().ends_with("conv.weight"));
        Ok((module, weights.map(|param| (param.name().to_owned(), param.shape().to_vec())).collect()))
    }

    #[test]
    fn convolutions_are_named_and_shaped_as_those_of_mmsegmentation() {
        let weights = |fields| build(&fields, 1).unwrap().1;
        let weight = |name: &str, shape: &[usize]| (format!("{name}.conv.weight"), shape.to_vec());
        assert_eq!(weights(json!({})), [weight("convs.0", &[5, 4, 3, 3])]);
        let options = json!({ "num_convs": 2, "kernel_size": 1, "concat_input": true });
        let expected = [("convs.0", [5, 4, 1, 1]), ("convs.1", [5, 5, 1, 1]), ("conv_cat", [5, 9, 1, 1])];
        assert_eq!(weights(options), expected.map(|(name, shape)| weight(name, &shape)));
        assert_eq!(weights(json!({ "num_convs": 0, "channels": 4 })), []);
    }

    #[test]
    fn what_does_not_fit_is_a_problem_with_its_key() {
        let key = |fields, levels| build(&fields, levels).err().unwrap().key;
        assert_eq!(key(json!({}), 2), "from");
        assert_eq!(key(json!({}), 0), "from");
        assert_eq!(key(json!({ "kernel_size": 2 }), 1), "kernel_size");
        assert_eq!(key(json!({ "num_convs": 0 }), 1), "channels");
    }

    #[test]
    fn every_option_predicts_as_large_as_the_image_and_counts_its_positions() {
        let level = level();
        let batch = Batch::new(
            Vec::new(),
            (8, 12),
            Normalization::identity(3),
            vec![Target::default()],
            vec!["a".to_owned()],
        );
        let values = (0..level.tokens() * 4).map(|i| (i as f32 * 0.3).sin()).collect();
        let tokens = Tensor::from_vec(values, (1, level.tokens(), 4), &Tape::none()).unwrap();
        let features = Features { levels: vec![Level { shape: level, tokens }], mask: None };
        let ctx = Context::eval(stream(Purpose::Evaluate, &[0]));
        for (fields, macs) in [
            (json!({}), 24 * (4 * 5 * 9 + 5 * 3)),
            (json!({ "concat_input": true }), 24 * (4 * 5 * 9 + 9 * 5 * 9 + 5 * 3)),
            (json!({ "num_convs": 0, "channels": 4 }), 24 * 4 * 3),
        ] {
            let (module, _) = build(&fields, 1).unwrap();
            assert_eq!(module.macs().computed, macs);
            let found = module.predict(&features, &batch, &ctx).unwrap();
            let Prediction::Semantic(Semantic { maps, logits: Some(logits) }) = found else {
                panic!("{found:?}")
            };
            assert_eq!((maps.len(), maps[0].dimensions()), (1, (12, 8)));
            assert_eq!((logits.height, logits.width, logits.classes), (8, 12, 3));
        }
    }
}
