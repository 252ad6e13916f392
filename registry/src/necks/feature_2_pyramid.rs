//! The feature pyramid of `BEiT`'s and MAE's segmentors.

use convmae_framework::component::{
    Features, ImageShape, Level, LevelShape, Macs, Neck, NeckModule, Problem,
};
use convmae_framework::nn::layers::{BatchNorm, ConvTranspose2d, Window};
use convmae_framework::nn::ops::{self, Gelu, Sequential};
use convmae_framework::nn::{Context, Error, Result, Scope, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::pyramid_level;

/// A pyramid of the channels it gets from FOUR levels that are equally fine, as those of a plain vision transformer
/// with `out_indices`: the first 4 times and the second twice as fine by transposed convolutions, the third as it
/// is, the fourth half as fine by the largest of 2x2 positions (`fpn1` to `fpn4` of `BEiT`'s segmentation backbone,
/// Bao et al. 2022; `Feature2Pyramid` of mmsegmentation).
///
/// Yields `p2` to `p5` for levels of stride 16.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Feature2Pyramid {
    /// Whether the statistics of BatchNorm are shared among processes (`SyncBN`). A single process has none
    /// to share them with.
    pub sync: bool,
}

#[typetag::serde]
impl Neck for Feature2Pyramid {
    fn build(
        &self,
        scope: &Scope,
        _: ImageShape,
        levels: &[LevelShape],
    ) -> std::result::Result<Box<dyn NeckModule>, Problem> {
        let [first, second, third, fourth] = levels else {
            let message = format!("it takes four levels, not {}", levels.len());
            return Err(
                Problem::new("from", message).help("give the backbone `out_indices`, as in `[3, 5, 7, 11]`")
            );
        };
        if let Some(other) = levels
            .iter()
            .find(|level| (level.stride, level.rows, level.cols) != (first.stride, first.rows, first.cols))
        {
            let message = format!(
                "level `{}` is not as fine as `{}`: it takes levels of one stride",
                other.name, first.name
            );
            return Err(Problem::new("from", message));
        }
        if !first.stride.is_multiple_of(4) || fourth.rows.min(fourth.cols) < 2 {
            let message = format!(
                "levels of stride {} with {} x {} positions cannot be made 4 times as fine and half as fine",
                first.stride, first.rows, first.cols
            );
            return Err(Problem::new("from", message));
        }
        let deconv = |fpn: &str, at: usize, level: &LevelShape| {
            ConvTranspose2d::new(&scope.child(fpn).child(at), level.channels, level.channels, 2)
        };
        Ok(Box::new(Feature2PyramidModule {
            // The numbers are those of a `Sequential` with GELU at 2.
            fpn1: [deconv("fpn1", 0, first), deconv("fpn1", 3, first)],
            norm: BatchNorm::new(&scope.child("fpn1").child(1), first.channels, 1e-5),
            fpn2: deconv("fpn2", 0, second),
            levels: [scaled(first, 2)?, scaled(second, 1)?, scaled(third, 0)?, scaled(fourth, -1)?],
        }))
    }
}

convmae_framework::register!(Neck: Feature2Pyramid);

/// The level that is twice as fine so often, or half as fine.
fn scaled(level: &LevelShape, steps: i32) -> std::result::Result<LevelShape, Problem> {
    let doubled = |size: usize, steps: i32| if steps < 0 { size >> -steps } else { size << steps };
    let LevelShape { rows, cols, stride, .. } = *level;
    let (rows, cols, stride) = (doubled(rows, steps), doubled(cols, steps), doubled(stride, -steps));
    pyramid_level(&LevelShape { rows, cols, kept: rows * cols, stride, ..level.clone() }, level.channels)
}

struct Feature2PyramidModule {
    fpn1: [ConvTranspose2d; 2],
    /// Between the two.
    norm: BatchNorm,
    fpn2: ConvTranspose2d,
    /// What comes out, finest first.
    levels: [LevelShape; 4],
}

impl NeckModule for Feature2PyramidModule {
    fn levels(&self) -> Vec<LevelShape> {
        self.levels.to_vec()
    }

    fn macs(&self) -> Macs {
        let positions = self.levels[2].positions();
        let [first, second] = &self.fpn1;
        // The first makes four positions of one.
        Macs::same(first.macs(positions) + second.macs(4 * positions) + self.fpn2.macs(positions))
    }

    fn forward(&self, features: &Features, ctx: &Context) -> Result<Features> {
        let [first, second] = self.fpn1.clone();
        let fpn1 = Sequential::new().then(first).then(self.norm.clone()).then(Gelu).then(second);
        let maps = features.levels.iter().map(Level::maps).collect::<Result<Vec<_>>>()?;
        let [first, second, third, fourth] = <[Tensor; 4]>::try_from(maps)
            .map_err(|maps| Error::Value(format!("{} levels reach a neck of four", maps.len())))?;
        let maps = [
            fpn1.forward(first, ctx)?,
            self.fpn2.forward(second, ctx)?,
            third,
            ops::max_pool2d(fourth, 2, Window { stride: 2, ..Window::default() })?,
        ];
        let level = |(shape, map): (&LevelShape, Tensor)| -> Result<Level> {
            Ok(Level { shape: shape.clone(), tokens: ops::to_tokens(map)? })
        };
        Ok(Features { levels: self.levels.iter().zip(maps).map(level).collect::<Result<_>>()?, mask: None })
    }
}

#[cfg(test)]
mod tests {
    use convmae_framework::component::Backbone as _;
    use convmae_framework::nn::{Images, Param, ParamKind};
    use convmae_framework::random::{Purpose, stream};
    use serde_json::json;

    use super::*;
    use crate::backbones::ViT;

    const IMAGE: ImageShape = ImageShape { channels: 3, height: 32, width: 48 };

    fn backbone() -> ViT {
        serde_json::from_value(json!({
            "patch_size": 8, "embed_dim": 8, "depth": 5, "num_heads": 2, "out_indices": [0, 1, 3, 4],
            "final_norm": false, "relative_positions": "bias", "init_values": 1.0,
        }))
        .unwrap()
    }

    #[test]
    fn its_parameters_are_those_of_beit() {
        let scope = Scope::describe();
        let levels = backbone().build(&scope, IMAGE, None).unwrap().levels();
        let before = scope.params().len();
        let neck = Feature2Pyramid::default().build(&scope, IMAGE, &levels).unwrap();
        let shapes = |level: &LevelShape| (level.name.clone(), level.rows, level.cols, level.stride);
        assert_eq!(
            neck.levels().iter().map(shapes).collect::<Vec<_>>(),
            [("p1", 16, 24, 2), ("p2", 8, 12, 4), ("p3", 4, 6, 8), ("p4", 2, 3, 16)]
                .map(|(name, rows, cols, stride)| (name.to_owned(), rows, cols, stride))
        );
        let params = scope.params().split_off(before);
        let is_weight = |param: &&Param| param.kind() != ParamKind::Buffer;
        let mut weights: Vec<_> =
            params.iter().filter(is_weight).map(|param| (param.name(), param.shape().to_vec())).collect();
        weights.sort();
        assert_eq!(
            weights,
            [
                ("fpn1.0.bias", vec![8]),
                ("fpn1.0.weight", vec![8, 8, 2, 2]),
                ("fpn1.1.bias", vec![8]),
                ("fpn1.1.weight", vec![8]),
                ("fpn1.3.bias", vec![8]),
                ("fpn1.3.weight", vec![8, 8, 2, 2]),
                ("fpn2.0.bias", vec![8]),
                ("fpn2.0.weight", vec![8, 8, 2, 2]),
            ]
        );
        // 24 positions; the second convolution of the first level has four times as many.
        assert_eq!(neck.macs(), Macs::same((24 + 4 * 24 + 24) * 8 * 8 * 4));
    }

    #[test]
    fn each_level_is_made_of_one_of_its_own() {
        let scope = Scope::new(0);
        let module = backbone().build(&scope, IMAGE, None).unwrap();
        let neck = Feature2Pyramid::default().build(&scope, IMAGE, &module.levels()).unwrap();
        let pixels = (0..3 * 32 * 48).map(|at| (at as f32 * 0.3).sin()).collect();
        let images = Images::from_vec(pixels, (1, 3, 32, 48));
        let ctx = Context::eval(stream(Purpose::Evaluate, &[0]));
        let features = module.forward(&images, None, &ctx).unwrap();
        let maps = |features: &Features| -> Vec<Vec<f32>> {
            features.levels.iter().map(|level| level.maps().unwrap().to_vec().unwrap()).collect()
        };
        let given = maps(&features);
        assert!(given.array_windows().all(|[one, next]| one != next));
        let made = maps(&neck.forward(&features, &ctx).unwrap());
        assert_eq!(made[2], given[2]);
        let value = |map: &[f32], (row, col, channel): (usize, usize, usize), cols: usize| {
            map[(row * cols + col) * 8 + channel]
        };
        for at in
            (0..2).flat_map(|row| (0..3).flat_map(move |col| (0..8).map(move |channel| (row, col, channel))))
        {
            let (row, col, channel) = at;
            let largest = [(0, 0), (0, 1), (1, 0), (1, 1)]
                .map(|(y, x)| value(&given[3], (2 * row + y, 2 * col + x, channel), 6))
                .into_iter()
                .fold(f32::MIN, f32::max);
            assert_eq!(value(&made[3], at, 3), largest);
        }
        // The definition of a transposed convolution whose kernel is its stride.
        let params = scope.params();
        let param = |name: &str| params.iter().find(|param| param.name() == name).unwrap().to_vec().unwrap();
        let enlarged =
            |fpn: &str, map: &[f32], cols: usize, (row, col, channel): (usize, usize, usize)| -> f32 {
                let (weight, bias) = (param(&format!("{fpn}.weight")), param(&format!("{fpn}.bias")));
                let of = |input: usize| {
                    let weight = weight[((input * 8 + channel) * 2 + row % 2) * 2 + col % 2];
                    value(map, (row / 2, col / 2, input), cols) * weight
                };
                bias[channel] + (0..8).map(of).sum::<f32>()
            };
        for at in [(0, 0, 0), (3, 5, 2), (7, 11, 7)] {
            assert!((value(&made[1], at, 12) - enlarged("fpn2.0", &given[1], 6, at)).abs() < 1e-5);
            // Running statistics that nothing has entered: the norm divides by the root of 1 + 1e-5.
            let (row, col, _) = at;
            let scale = (1.0 + 1e-5_f32).sqrt().recip();
            let hidden = (0..8).map(|channel| enlarged("fpn1.0", &given[0], 6, (row, col, channel)) * scale);
            let hidden = Tensor::from_vec(hidden.collect(), (1, 8), &ctx.tape).unwrap();
            let hidden = Sequential::new().then(Gelu).forward(hidden, &ctx).unwrap().to_vec().unwrap();
            for (y, x) in [(0, 0), (1, 1)] {
                let weight = param("fpn1.3.weight");
                let channel = at.2;
                let sum: f32 =
                    (0..8).map(|input| hidden[input] * weight[((input * 8 + channel) * 2 + y) * 2 + x]).sum();
                let expected = param("fpn1.3.bias")[channel] + sum;
                assert!((value(&made[0], (2 * row + y, 2 * col + x, channel), 24) - expected).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn levels_that_do_not_fit_are_refused() {
        let levels = backbone().build(&Scope::describe(), IMAGE, None).unwrap().levels();
        let coarser = LevelShape { stride: 16, rows: 2, cols: 3, kept: 6, ..levels[3].clone() };
        let small = levels.iter().map(|level| LevelShape { rows: 1, kept: 6, ..level.clone() }).collect();
        for (levels, words) in [
            (levels[..1].to_vec(), "it takes four levels, not 1"),
            ([&levels[..3], &[coarser]].concat(), "level `s4` is not as fine as `s1`"),
            (small, "1 x 6 positions cannot be made 4 times as fine and half as fine"),
        ] {
            let problem = Feature2Pyramid::default().build(&Scope::describe(), IMAGE, &levels).err().unwrap();
            assert_eq!(problem.key, "from");
            assert!(problem.message.contains(words), "{}", problem.message);
        }
    }
}
