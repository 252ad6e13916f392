//! Backbones with their necks against the official detectors: ConvMAE's `DET` and Official-ConvMAE-Det.

use convmae_framework::component::{
    Backbone as _, BackboneModule, Features, ImageShape, Level, LevelShape, Neck, NeckModule,
};
use convmae_framework::nn::backend::{Buffer, download, upload};
use convmae_framework::nn::backward::backward;
use convmae_framework::nn::ops::operation;
use convmae_framework::nn::{Context, Images, Param, ParamKind, Scope};
use convmae_framework::random::{Purpose, stream};
use serde_json::{Value, json};

use super::{Fpn, SimpleFeaturePyramid};
use crate::backbones::{Coarser, ConvViT};
use crate::detection::testing::Golden;

const MEAN: [f32; 3] = [123.675, 116.28, 103.53];
const STD: [f32; 3] = [58.395, 57.12, 57.375];

/// An official detector up to its neck.
struct Detector {
    backbone: Box<dyn BackboneModule>,
    neck: Box<dyn NeckModule>,
    params: Vec<Param>,
    /// The first of the backbone's levels that the neck takes, and how many.
    takes: (usize, usize),
}

/// The options of a model, beside those of its size.
fn with(mut options: Value, more: &Value) -> Value {
    options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    options
}

impl Detector {
    fn new(
        scope: &Scope,
        backbone: (&str, Value),
        neck: &dyn Neck,
        side: usize,
        takes: (usize, usize),
    ) -> Self {
        let image = ImageShape { channels: 3, height: side, width: side };
        let spec: ConvViT = serde_json::from_value(backbone.1).unwrap();
        let backbone = spec.build(&scope.child(backbone.0), image, None).unwrap();
        let levels = &backbone.levels()[takes.0..][..takes.1];
        let neck = neck.build(&scope.child("backbone"), image, levels).unwrap();
        Self { backbone, neck, params: scope.params(), takes }
    }

    /// ConvMAE's `DET`: window attention with shared biases, a pyramid with BatchNorm.
    fn det(scope: &Scope, options: &Value, side: usize, channels: usize) -> Self {
        let backbone = json!({
            "final_norm": false, "s4": "max_pool", "relative_positions": "shared_bias",
            "window": { "size": 16, "global_blocks": [0, 3, 6, 10] },
        });
        let neck: Fpn =
            serde_json::from_value(json!({ "channels": channels, "norm": "batch", "sync": true })).unwrap();
        Self::new(scope, ("backbone.bottom_up", with(backbone, options)), &neck, side, (0, 4))
    }

    fn narrow_det(options: &Value) -> Self {
        let size = json!({
            "embed_dim": [8, 12, 24], "depth": [1, 1, 11], "num_heads": 4,
            "window": { "size": 4, "global_blocks": [0, 3, 6, 10] },
        });
        Self::det(&Scope::new(0), &with(size, options), 256, 16)
    }

    /// Official-ConvMAE-Det: padded windows with decomposed positions, the simple pyramid.
    fn vitdet(scope: &Scope, options: &Value, side: usize, channels: usize) -> Self {
        let backbone = json!({
            "final_norm": false, "relative_positions": "decomposed", "conv_norm_eps": 1e-6,
            "train_pos_embed": true, "pos_embed_grid": 14,
            "window": { "size": 14, "global_blocks": [1, 4, 7, 10] },
        });
        let neck = SimpleFeaturePyramid { channels };
        Self::new(scope, ("backbone.net", with(backbone, options)), &neck, side, (2, 1))
    }

    fn narrow_vitdet(options: &Value) -> Self {
        let size = json!({
            "embed_dim": [8, 12, 24], "depth": [1, 1, 11], "num_heads": 4, "pos_embed_grid": 6,
            "window": { "size": 5, "global_blocks": [1, 4, 7, 10] },
        });
        Self::vitdet(&Scope::new(0), &with(size, options), 192, 16)
    }

    /// Takes the official weights by their names; returns the names of those that are left.
    fn load(&self, weights: &Golden) -> Vec<String> {
        let is_tracked = |name: &str| !name.ends_with("num_batches_tracked");
        let mut left = weights.names();
        left.retain(|name| name.starts_with("backbone.") && is_tracked(name));
        for param in self.params.iter().filter(|param| is_tracked(param.name())) {
            let name = param.name();
            assert_eq!(weights.shape(name), param.shape(), "{name}");
            param.set(&weights.floats(name)).unwrap();
            left.retain(|left| left != name);
        }
        left
    }

    /// What the backbone yields, and what the neck makes of it.
    fn forward(&self, images: &Images, ctx: &Context) -> [Vec<Level>; 2] {
        let own = self.backbone.forward(images, None, ctx).unwrap().levels;
        let levels = own[self.takes.0..][..self.takes.1].to_vec();
        let pyramid = self.neck.forward(&Features { levels, mask: None }, ctx).unwrap().levels;
        assert_eq!(
            pyramid.iter().map(|level| &level.shape).collect::<Vec<_>>(),
            self.neck.levels().iter().collect::<Vec<_>>()
        );
        [own, pyramid]
    }

    /// Runs the backward of the sum of `<p, cotangent>` over the levels of the pyramid; returns that sum.
    fn backward(&self, images: &Images, cotangents: &Golden, ctx: &Context) -> f32 {
        let [_, pyramid] = self.forward(images, ctx);
        let dot = |level: &Level| {
            let (weights, shape) = cotangents.maps(&format!("cotangent.{}", level.shape.name));
            let maps = level.maps().unwrap();
            assert_eq!(maps.dims(), shape);
            let sum: f64 = maps.to_vec().unwrap().iter().zip(&weights).map(|(p, w)| f64::from(p * w)).sum();
            operation(vec![maps], (), move |_, _| {
                let backward = move |_: Buffer| upload(weights).map(|grad| vec![Some(grad)]);
                Ok((upload(vec![sum as f32])?, Some(Box::new(backward) as _)))
            })
        };
        let losses = pyramid.iter().map(|level| dot(level).unwrap());
        let loss = losses.reduce(|sum, loss| (sum + loss).unwrap()).unwrap();
        let value = loss.to_vec().unwrap()[0];
        backward(loss).unwrap();
        value
    }

    /// Asserts that the gradients are those of a golden file, within a relative error by the L2 norm or, for
    /// one parameter, an absolute one.
    #[track_caller]
    fn assert_grads(&self, golden: &Golden, prefix: &str, tolerance: f64, floor: Option<&str>) {
        let norm = |values: &[f32]| values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
        let mut compared = 0;
        for name in golden.names() {
            let Some(name) = name.strip_prefix(prefix) else { continue };
            let param = self.params.iter().find(|param| param.name() == name).unwrap();
            let grad = param.grad().unwrap_or_else(|| panic!("{name} has no gradient"));
            let grad = download(&grad).unwrap();
            let expected = golden.floats(&format!("{prefix}{name}"));
            let error: Vec<f32> = grad.iter().zip(&expected).map(|(own, other)| own - other).collect();
            if floor == Some(name) {
                assert!(error.iter().all(|error| error.abs() < 1e-3), "{name}: {error:?}");
            } else {
                let error = norm(&error) / norm(&expected);
                assert!(error <= tolerance, "{name}: off by {error:e}");
            }
            compared += 1;
        }
        assert!(compared > 60, "only {compared} gradients were compared");
    }
}

/// Normalised images `[3, H, W]` of a golden file with zeros at the right and at the bottom: `[images, 3,
/// side, side]`.
fn images(golden: &Golden, names: &[&str], side: usize) -> Images {
    let mut values = Vec::new();
    for name in names {
        let (bytes, shape) = (golden.bytes(name), golden.shape(name));
        let [height, width] = shape[shape.len() - 2..] else { unreachable!() };
        for (at, plane) in bytes.chunks_exact(height * width).enumerate() {
            let channel = at % 3;
            for row in 0..side {
                let pixel = |col: usize| (f32::from(plane[row * width + col]) - MEAN[channel]) / STD[channel];
                values
                    .extend((0..side).map(|col| if row < height && col < width { pixel(col) } else { 0.0 }));
            }
        }
    }
    let batch = values.len() / (3 * side * side);
    Images::from_vec(values, (batch, 3, side, side))
}

/// Asserts that the first images are those of a golden file, within an absolute error.
#[track_caller]
fn assert_images(name: &str, actual: &[f32], expected: &[f32], tolerance: f32) {
    assert!(actual.len() >= expected.len(), "{name}");
    for (at, (actual, expected)) in actual.iter().zip(expected).enumerate() {
        let error = (actual - expected).abs();
        assert!(error <= tolerance, "{name}: value {at} is {actual}, expected {expected} (off by {error:e})");
    }
}

#[track_caller]
fn assert_level(golden: &Golden, name: &str, level: &Level, tolerance: f32) {
    let ((expected, shape), maps) = (golden.maps(name), level.maps().unwrap());
    assert_eq!(maps.dims()[1..], shape[1..], "{name}");
    assert_images(name, &maps.to_vec().unwrap(), &expected, tolerance);
}

fn evaluation() -> Context {
    Context::eval(stream(Purpose::Evaluate, &[0]))
}

/// A pass with a tape.
fn step(training: bool) -> Context {
    let mut ctx = Context::train(stream(Purpose::Step, &[0]));
    ctx.training = training;
    ctx
}

/// The tokens behind the first blocks of the last stage, of which some are global.
fn tokens(
    build: fn(&Value) -> Detector,
    weights: &Golden,
    images: &Images,
    (blocks, size, global): (usize, usize, &[usize]),
) -> Vec<f32> {
    let window = json!({ "size": size, "global_blocks": global });
    let detector = build(&json!({ "depth": [1, 1, blocks], "window": window }));
    detector.load(weights);
    let features = detector.backbone.forward(images, None, &evaluation()).unwrap();
    features.levels[2].tokens.to_vec().unwrap()
}

#[test]
fn levels_and_pyramid_of_det_are_the_official_ones() {
    let (weights, golden) = (Golden::read("weights"), Golden::read("backbone"));
    let images = images(&golden, &["images_u8"], 256);
    let detector = Detector::narrow_det(&json!({}));
    let left = detector.load(&weights);
    assert!(left.iter().all(|name| name.ends_with("relative_position_index")), "{left:?}");

    let ctx = evaluation().recording();
    let [own, pyramid] = detector.forward(&images, &ctx);
    let records = ctx.into_records();
    let (_, (_, stage3)) = records.iter().find(|(name, _)| name == "tokens_in_blocks3").unwrap();
    assert_images("stage3_in", stage3, &golden.floats("stage3_in"), 2e-4);
    for (at, level) in own.iter().enumerate() {
        assert_level(&golden, &format!("s{at}"), level, 2e-4);
    }
    for level in &pyramid {
        assert_level(&golden, &level.shape.name, level, 2e-4);
    }
    for (blocks, global) in [(1, &[0][..]), (2, &[0]), (4, &[0, 3])] {
        let name = format!("blocks3_{}_out", blocks - 1);
        let tokens = tokens(Detector::narrow_det, &weights, &images, (blocks, 4, global));
        assert_images(&name, &tokens, &golden.floats(&name), 2e-4);
    }
}

#[test]
fn batch_norm_of_det_in_training_is_the_official_one() {
    let golden = Golden::read("backbone");
    let detector = Detector::narrow_det(&json!({}));
    detector.load(&Golden::read("weights"));
    let [_, pyramid] = detector.forward(&images(&golden, &["images_u8"], 256), &step(true));
    for level in &pyramid[1..] {
        assert_level(&golden, &format!("trainbn_{}", level.shape.name), level, 2e-4);
    }
    let statistics = golden.names();
    let statistics: Vec<_> = statistics.iter().filter_map(|name| name.strip_prefix("after1step.")).collect();
    assert_eq!(statistics.len(), 16);
    for name in statistics {
        let param = detector.params.iter().find(|param| param.name() == name).unwrap();
        let expected = golden.floats(&format!("after1step.{name}"));
        assert_images(name, &param.to_vec().unwrap(), &expected, 2e-4);
    }
}

#[test]
fn gradients_of_det_are_the_official_ones() {
    let golden = Golden::read("backbone_grads");
    let images = images(&Golden::read("backbone"), &["images_u8"], 256);
    for (mode, training) in [("train", true), ("eval", false)] {
        let detector = Detector::narrow_det(&json!({ "train_pos_embed": true }));
        detector.load(&Golden::read("weights"));
        let mut ctx = step(training);
        ctx.checkpoint_activations = !training;
        let loss = detector.backward(&images, &golden, &ctx);
        let expected = golden.floats(&format!("{mode}.loss"))[0];
        assert!(
            (loss - expected).abs() <= 1e-4 * expected.abs().max(1.0),
            "{mode}: {loss}, expected {expected}"
        );
        let floor = training.then_some("backbone.bottom_up.blocks3.10.mlp.fc2.bias");
        detector.assert_grads(&golden, &format!("{mode}.grad."), 3e-4, floor);
    }
}

#[test]
fn blocks_and_pyramid_of_vitdet_are_the_official_ones() {
    let (weights, golden) = (Golden::read("vitdet/weights"), Golden::read("vitdet/backbone"));
    let images = images(&golden, &["image_u8_0", "image_u8_1"], 192);
    let detector = Detector::narrow_vitdet(&json!({}));
    assert_eq!(detector.load(&weights), Vec::<String>::new());

    let ctx = evaluation().recording();
    let [own, pyramid] = detector.forward(&images, &ctx);
    let records = ctx.into_records();
    let (_, (_, stage3)) = records.iter().find(|(name, _)| name == "tokens_in_blocks3").unwrap();
    let embedded = golden.floats("patch_embed4").into_iter().zip(golden.floats("pos_embed_resized"));
    let embedded: Vec<f32> = embedded.map(|(token, position)| token + position).collect();
    assert_images("tokens with positions", stage3, &embedded, 1e-4);
    assert_level(&golden, "blocks2_out", &own[1], 1e-4);
    assert_images("blocks3_10_out", &own[2].tokens.to_vec().unwrap(), &golden.floats("blocks3_10_out"), 1e-4);
    for level in &pyramid {
        assert_level(&golden, &level.shape.name, level, 1e-4);
    }
    for blocks in [1, 2] {
        let (name, global) = (format!("blocks3_{}_out", blocks - 1), &[1][..blocks - 1]);
        let tokens = tokens(Detector::narrow_vitdet, &weights, &images, (blocks, 5, global));
        assert_images(&name, &tokens, &golden.floats(&name), 1e-4);
    }
}

#[test]
fn gradients_of_vitdet_are_the_official_ones() {
    let golden = Golden::read("vitdet/backbone_grads");
    let images = images(&Golden::read("vitdet/backbone"), &["image_u8_0", "image_u8_1"], 192);
    for checkpoint in [false, true] {
        let detector = Detector::narrow_vitdet(&json!({}));
        detector.load(&Golden::read("vitdet/weights"));
        let mut ctx = step(true);
        ctx.checkpoint_activations = checkpoint;
        let loss = detector.backward(&images, &golden, &ctx);
        let expected = golden.floats("loss")[0];
        assert!((loss - expected).abs() <= 1e-4 * expected.abs().max(1.0), "{loss}, expected {expected}");
        detector.assert_grads(&golden, "grad.", 1e-4, None);
    }
}

/// Parameters, frozen ones among them, and multiply-accumulates of the backbone and of both.
fn statistics(detector: &Detector) -> [u64; 4] {
    let count = |is_counted: &dyn Fn(ParamKind) -> bool| -> u64 {
        let counted = detector.params.iter().filter(|param| is_counted(param.kind()));
        counted.map(|param| param.numel() as u64).sum()
    };
    let backbone = detector.backbone.macs().dense;
    [
        count(&|kind| kind != ParamKind::Buffer),
        count(&|kind| kind == ParamKind::Frozen),
        backbone,
        backbone + detector.neck.macs().dense,
    ]
}

#[test]
fn sizes_of_the_base_models_are_the_official_ones() {
    let det = Detector::det(&Scope::describe(), &json!({}), 1024, 256);
    assert_eq!(statistics(&det), [87_804_568 + 2_920_448, 3_145_728, 583_121_502_208, 641_371_996_160]);
    let vitdet = Detector::vitdet(&Scope::describe(), &json!({}), 1024, 256);
    let pyramid = 2_115_904 + 1_869_184 + 2 * 787_456;
    assert_eq!(statistics(&vitdet), [84_693_504 + pyramid, 0, 597_799_751_680, 669_472_018_432]);
}

#[test]
fn levels_that_make_no_pyramid_are_refused() {
    let image = ImageShape { channels: 3, height: 64, width: 96 };
    let levels = ConvViT { s4: Some(Coarser::MaxPool), ..ConvViT::default() };
    let levels = levels.build(&Scope::describe(), image, None).unwrap().levels();
    let message = |neck: &dyn Neck, levels: &[LevelShape]| {
        let problem = neck.build(&Scope::describe(), image, levels).err().unwrap();
        assert_eq!(problem.key, "from");
        problem.message
    };
    let fpn = Fpn::default();
    assert!(message(&fpn, &[]).contains("no features"));
    assert!(
        message(&fpn, &[levels[0].clone(), levels[2].clone()]).contains("`s3` of stride 16 follows `s1`")
    );
    let masked = LevelShape { kept: 3, ..levels[2].clone() };
    assert!(message(&fpn, std::slice::from_ref(&masked)).contains("`s3` is masked"));
    let odd = LevelShape { stride: 12, ..levels[2].clone() };
    assert!(message(&fpn, std::slice::from_ref(&odd)).contains("no power of 2"));

    let simple = SimpleFeaturePyramid::default();
    assert!(message(&simple, &levels).contains("one level, not 4"));
    assert!(message(&simple, &[masked]).contains("masked"));
    let coarse = LevelShape { rows: 1, cols: 1, kept: 1, ..levels[2].clone() };
    assert!(message(&simple, &[coarse]).contains("1 x 1 positions"));
}

#[test]
fn a_pyramid_fits_any_image_that_the_strides_divide() {
    // 5 x 3 tokens: the level of stride 32 holds 2 x 1 positions.
    let image = ImageShape { channels: 3, height: 80, width: 48 };
    let spec = json!({
        "embed_dim": [4, 4, 8], "depth": [1, 1, 2], "num_heads": 2, "s4": "max_pool",
        "relative_positions": "shared_bias", "window": { "size": 2, "global_blocks": [1] },
    });
    let spec: ConvViT = serde_json::from_value(spec).unwrap();
    let backbone = spec.build(&Scope::new(0), image, None).unwrap();
    let fpn = Fpn { channels: 4, ..Fpn::default() };
    let simple = SimpleFeaturePyramid { channels: 4 };
    let images = Images::from_vec(vec![0.5; 2 * 3 * 80 * 48], (2, 3, 80, 48));
    let features = backbone.forward(&images, None, &evaluation()).unwrap();
    let necks: [(&dyn Neck, &[Level]); 2] = [(&fpn, &features.levels), (&simple, &features.levels[2..3])];
    for (neck, levels) in necks {
        let shapes: Vec<_> = levels.iter().map(|level| level.shape.clone()).collect();
        let neck = neck.build(&Scope::new(0), image, &shapes).unwrap();
        let features = Features { levels: levels.to_vec(), mask: None };
        let pyramid = neck.forward(&features, &evaluation()).unwrap().levels;
        let names: Vec<_> = pyramid.iter().map(|level| level.shape.name.as_str()).collect();
        assert_eq!(names, ["p2", "p3", "p4", "p5", "p6"]);
        let sizes = [[20, 12], [10, 6], [5, 3], [2, 1], [1, 1]];
        for (level, [rows, cols]) in pyramid.iter().zip(sizes) {
            assert_eq!((level.shape.rows, level.shape.cols), (rows, cols), "{}", level.shape.name);
            assert_eq!(level.tokens.dims(), [2, rows * cols, 4]);
        }
    }
}

#[test]
fn convolutions_of_fpn_start_as_those_of_detectron2() {
    let scope = Scope::new(0);
    let level = |name: &str, stride| LevelShape {
        name: name.to_owned(),
        rows: 4,
        cols: 4,
        kept: 16,
        cell: 1,
        prefix_tokens: 0,
        channels: 48,
        stride,
    };
    let image = ImageShape { channels: 3, height: 32, width: 32 };
    Fpn { channels: 64, ..Fpn::default() }.build(&scope, image, &[level("s", 8)]).unwrap();
    let values = |name: &str| {
        let params = scope.params();
        params.iter().find(|param| param.name() == name).unwrap().to_vec().unwrap()
    };
    // `c2_xavier_fill`: uniform within the root of 3 / fan in.
    for (name, fan_in) in [("fpn_lateral3.weight", 48.0), ("fpn_output3.weight", 64.0 * 9.0)] {
        let bound = (3.0_f32 / fan_in).sqrt();
        let largest = values(name).iter().fold(0.0_f32, |max, value| max.max(value.abs()));
        assert!(largest <= bound && largest > 0.99 * bound, "{name}: {largest}, expected {bound}");
    }
    assert_eq!(values("fpn_lateral3.bias"), [0.0; 64]);
}
