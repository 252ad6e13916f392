//! Mixup and `CutMix`: images mixed with each other.

use std::ops::Range;

use convmae_framework::component::{BatchTransform, Problem};
use convmae_framework::data::{Batch, DataError, Mixed, Target};
use convmae_framework::nn::Images;
use convmae_framework::random::Rng;
use rand::Rng as _;
use rand_distr::{Beta, Distribution as _};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Mixes every image of a batch with another one, as timm's `Mixup` in mode `batch`: the first with the last,
/// the second with the last but one, all by the same share. Either all pixels are averaged (mixup) or a
/// rectangle is exchanged (`CutMix`). The heads mix labels by the same share.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Mixup {
    /// The share of averaged images is drawn from Beta(alpha, alpha); 0 for no averaging.
    #[schemars(range(min = 0.0))]
    pub mixup_alpha: f64,
    /// The share of images with a rectangle of another one is drawn from Beta(alpha, alpha); 0 for no
    /// rectangles.
    #[schemars(range(min = 0.0))]
    pub cutmix_alpha: f64,
    /// Probability that a batch is mixed at all.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub probability: f64,
    /// Probability of rectangles rather than averages, where both are asked for.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub switch_probability: f64,
}

impl Default for Mixup {
    fn default() -> Self {
        Self { mixup_alpha: 0.8, cutmix_alpha: 1.0, probability: 1.0, switch_probability: 0.5 }
    }
}

/// How a batch is mixed.
#[derive(Debug, Clone, PartialEq)]
enum Mix {
    /// Not at all.
    Nothing,
    /// By averages: the image's own share.
    Average(f64),
    /// By rectangles.
    Rectangle(Rectangle),
}

/// Rows and columns of a picture.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rectangle {
    rows: Range<usize>,
    columns: Range<usize>,
}

impl Rectangle {
    /// The rectangle of `1 - share` of an image around `center`, cut off at the image's borders (timm 0.3.2
    /// `rand_bbox`).
    fn around(center: (usize, usize), share: f64, height: usize, width: usize) -> Self {
        let ratio = (1.0 - share).sqrt();
        let side = |center: usize, size: usize| {
            let half = (size as f64 * ratio) as usize / 2;
            center.saturating_sub(half)..(center + half).min(size)
        };
        Self { rows: side(center.0, height), columns: side(center.1, width) }
    }

    /// The share of an image that lies outside.
    fn rest(&self, height: usize, width: usize) -> f64 {
        1.0 - (self.rows.len() * self.columns.len()) as f64 / (height * width) as f64
    }
}

impl Mixup {
    /// How a batch of images of this size is mixed (timm's `_params_per_batch`).
    fn draw(&self, height: usize, width: usize, rng: &mut Rng) -> Result<Mix, DataError> {
        if rng.random::<f64>() >= self.probability {
            return Ok(Mix::Nothing);
        }
        let rectangle = match (self.mixup_alpha > 0.0, self.cutmix_alpha > 0.0) {
            (true, true) => rng.random::<f64>() < self.switch_probability,
            (_, cutmix) => cutmix,
        };
        let alpha = if rectangle { self.cutmix_alpha } else { self.mixup_alpha };
        let beta = Beta::new(alpha, alpha)
            .map_err(|error| DataError::Transform(format!("`Mixup` with alpha {alpha}: {error}")))?;
        let share = beta.sample(rng);
        if !rectangle {
            return Ok(Mix::Average(share));
        }
        let center = (rng.random_range(0..height), rng.random_range(0..width));
        Ok(Mix::Rectangle(Rectangle::around(center, share, height, width)))
    }
}

impl Mix {
    /// An image's own share of what results.
    fn share(&self, height: usize, width: usize) -> f64 {
        match self {
            Self::Nothing => 1.0,
            Self::Average(share) => *share,
            Self::Rectangle(rectangle) => rectangle.rest(height, width),
        }
    }

    /// The batch, mixed with itself in reverse.
    fn apply(&self, mut batch: Batch) -> Result<Batch, DataError> {
        let share = self.share(batch.height, batch.width);
        let classes = classes(&batch)?;
        if batch.sizes.iter().any(|size| *size != [batch.height, batch.width]) {
            let reason = "`Mixup` cannot take padded images: remove `pad_to` or `Mixup`";
            return Err(DataError::Transform(reason.to_owned()));
        }
        if share == 1.0 {
            return Ok(batch);
        }
        let (count, width) = (batch.len(), batch.width);
        let area = batch.height * width;
        let image = batch.channels() * area;
        // In a batch of an odd number the middle image is its own partner, and stays as it is.
        let shape = batch.images.shape();
        let mut images = batch.images.into_vec();
        let (front, back) = images.split_at_mut(count / 2 * image);
        let pairs = front.chunks_exact_mut(image).zip(back.rchunks_exact_mut(image));
        match self {
            Self::Nothing => {}
            Self::Average(_) => pairs.for_each(|(one, other)| average(one, other, share)),
            Self::Rectangle(rectangle) => pairs.for_each(|(one, other)| {
                for (one, other) in one.chunks_exact_mut(area).zip(other.chunks_exact_mut(area)) {
                    rectangle.exchange(one, other, width);
                }
            }),
        }
        batch.images = Images::from_vec(images, shape);
        for (target, class) in batch.targets.iter_mut().zip(classes.into_iter().rev()) {
            target.mixed = Some(Mixed { class, share: (1.0 - share) as f32 });
        }
        Ok(batch)
    }
}

/// Makes each of two images its own `share` and the rest of the other one.
fn average(one: &mut [f32], other: &mut [f32], share: f64) {
    let (own, rest) = (share as f32, (1.0 - share) as f32);
    for (one, other) in one.iter_mut().zip(other) {
        (*one, *other) = (*one * own + *other * rest, *other * own + *one * rest);
    }
}

impl Rectangle {
    /// Exchanges the rectangle of two channels of `width` columns.
    fn exchange(&self, one: &mut [f32], other: &mut [f32], width: usize) {
        for row in self.rows.clone() {
            let columns = row * width + self.columns.start..row * width + self.columns.end;
            one[columns.clone()].swap_with_slice(&mut other[columns]);
        }
    }
}

/// The class of every image, where classes are all that is known and nothing is mixed yet.
fn classes(batch: &Batch) -> Result<Vec<usize>, DataError> {
    let class = |(target, id): (&Target, &String)| {
        let problem = match target {
            Target { mixed: Some(_), .. } => "it is mixed already: write `Mixup` once",
            Target { semantic: Some(_), .. } => "it has a label map, which cannot be mixed: remove `Mixup`",
            Target { instances, .. } if !instances.is_empty() => {
                "it has objects with boxes and masks, which cannot be mixed: remove `Mixup`"
            }
            Target { class: Some(class), .. } => return Ok(*class),
            _ => "it has no class: use a dataset with classes, or remove `Mixup`",
        };
        Err(DataError::Transform(format!("`Mixup` cannot take {id}: {problem}")))
    };
    batch.targets.iter().zip(&batch.ids).map(class).collect()
}

#[typetag::serde]
impl BatchTransform for Mixup {
    fn apply(&self, batch: Batch, rng: &mut Rng) -> Result<Batch, DataError> {
        self.draw(batch.height, batch.width, rng)?.apply(batch)
    }

    fn check(&self) -> Result<(), Problem> {
        for (key, alpha) in [("mixup_alpha", self.mixup_alpha), ("cutmix_alpha", self.cutmix_alpha)] {
            if !(alpha >= 0.0 && alpha.is_finite()) {
                return Err(Problem::new(key, format!("{alpha} is no parameter of a beta distribution"))
                    .help("above 0, or 0 to do without"));
            }
        }
        if self.mixup_alpha == 0.0 && self.cutmix_alpha == 0.0 {
            return Err(Problem::new("", "with both alphas 0 nothing is ever mixed")
                .help("remove `Mixup`, or set `mixup_alpha` or `cutmix_alpha`"));
        }
        Ok(())
    }
}

convmae_framework::register!(BatchTransform: Mixup);

#[cfg(test)]
mod tests;
