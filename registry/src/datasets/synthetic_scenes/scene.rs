//! One scene: what is in it, where, and how it is painted.

use convmae_framework::data::{Instances, Mask, Rle, Target};
use convmae_framework::random::Rng;
use image::{GrayImage, Luma, RgbImage};
use rand::Rng as _;

use super::ShapeClass;
use super::paint::{Canvas, Colour, Texture, coverage, hsl, mix};

/// Attempts at a free place for an object.
const ATTEMPTS: usize = 20;
/// Marks pixels without an object.
const NOBODY: u8 = u8::MAX;

struct Object {
    class: usize,
    shape: ShapeClass,
    /// In pixels, as is the radius.
    centre: [f32; 2],
    radius: f32,
    /// Cosine and sine of its rotation.
    turn: [f32; 2],
    colours: [Colour; 2],
    texture: Texture,
}

impl Object {
    /// Distance from a point to the outline, in pixels.
    fn distance(&self, x: f32, y: f32) -> f32 {
        let (x, y) = ((x - self.centre[0]) / self.radius, (self.centre[1] - y) / self.radius);
        let [cos, sin] = self.turn;
        self.shape.distance([cos * x + sin * y, cos * y - sin * x]) * self.radius
    }
}

/// Draws a scene: between `count[0]` and `count[1]` objects, fewer where there is no room.
pub fn draw(
    height: usize,
    width: usize,
    classes: &[ShapeClass],
    count: [usize; 2],
    rng: &mut Rng,
) -> (RgbImage, Target) {
    let hue: f32 = rng.random();
    let dark = rng.random_bool(0.5);
    let mut canvas = background(height, width, hue, dark, rng);
    let objects = place(height, width, classes, count, (hue, dark), rng);
    let mut owner = vec![NOBODY; height * width];
    for (number, object) in objects.iter().enumerate() {
        paint(&mut canvas, &mut owner, number as u8, object);
    }
    (canvas.into_image(), target(&objects, &owner, height, width))
}

/// A gradient of two dull colours under a faint texture.
fn background(height: usize, width: usize, hue: f32, dark: bool, rng: &mut Rng) -> Canvas {
    let lightness = if dark { rng.random_range(0.14..0.30) } else { rng.random_range(0.72..0.90) };
    let saturation = rng.random_range(0.15..0.45);
    let from = hsl(hue, saturation, lightness);
    let to =
        hsl(hue + rng.random_range(-0.12_f32..0.12), saturation, lightness + rng.random_range(-0.1_f32..0.1));
    let angle = rng.random_range(0.0..std::f32::consts::TAU);
    let (cos, sin) = (angle.cos(), angle.sin());
    let side = height.min(width) as f32;
    let texture = Texture::draw(rng, [(side / 8.0).max(4.0), (side / 4.0).max(6.0)]);
    let contrast = if dark { 0.05 } else { -0.05 };
    let reach = height.max(width) as f32;
    Canvas::new(height, width, |x, y| {
        let share = 0.5 + (cos * (x - width as f32 / 2.0) + sin * (y - height as f32 / 2.0)) / reach;
        let lift = contrast * texture.at(x, y);
        mix(from, to, share.clamp(0.0, 1.0)).map(|value| value + lift)
    })
}

/// Chooses objects and finds places for them, the largest first, so that smaller ones come to lie on top.
fn place(
    height: usize,
    width: usize,
    classes: &[ShapeClass],
    count: [usize; 2],
    (hue, dark): (f32, bool),
    rng: &mut Rng,
) -> Vec<Object> {
    let count = rng.random_range(count[0] as u32..=count[1] as u32) as usize;
    let side = height.min(width) as f32;
    let share = if count == 1 { 0.24..0.42 } else { 0.13..0.30 };
    let mut radii: Vec<f32> = (0..count).map(|_| side * rng.random_range(share.clone())).collect();
    radii.sort_by(|a, b| b.total_cmp(a));
    let mut objects: Vec<Object> = Vec::with_capacity(count);
    for radius in radii {
        let free = (0..ATTEMPTS).find_map(|_| {
            let mut along = |length: usize| rng.random_range(radius..=length as f32 - radius);
            let centre = [along(width), along(height)];
            let apart = |other: &Object| {
                let way = (centre[0] - other.centre[0]).hypot(centre[1] - other.centre[1]);
                way > 0.85 * (radius + other.radius)
            };
            objects.iter().all(apart).then_some(centre)
        });
        let Some(centre) = free else { continue };
        let class = rng.random_range(0..classes.len() as u32) as usize;
        let angle = rng.random_range(-0.45_f32..0.45);
        let hue = hue + rng.random_range(0.2_f32..0.8);
        let lightness = if dark { rng.random_range(0.55..0.72) } else { rng.random_range(0.35..0.55) };
        let colour = hsl(hue, rng.random_range(0.6..0.95), lightness);
        let towards = if rng.random_bool(0.5) { [1.0; 3] } else { hsl(hue, 0.5, 0.12) };
        objects.push(Object {
            class,
            shape: classes[class],
            centre,
            radius,
            turn: [angle.cos(), angle.sin()],
            colours: [colour, mix(colour, towards, 0.55)],
            texture: Texture::draw(rng, [(radius * 0.35).max(3.0), (radius * 0.7).max(4.0)]),
        });
    }
    objects
}

/// Paints an object with a soft shadow, and takes its pixels.
fn paint(canvas: &mut Canvas, owner: &mut [u8], number: u8, object: &Object) {
    let Object { centre, radius, .. } = *object;
    let shift = radius * 0.10;
    let range = |centre: f32, limit: usize| {
        let end = (centre + radius + 2.0 * shift + 2.0).ceil() as usize;
        ((centre - radius - 2.0).max(0.0) as usize)..end.min(limit)
    };
    for row in range(centre[1], canvas.height) {
        for column in range(centre[0], canvas.width) {
            let (x, y) = (column as f32 + 0.5, row as f32 + 0.5);
            let shadow = (0.5 - object.distance(x - shift, y - shift) / (2.0 * shift)).clamp(0.0, 1.0);
            let covered = coverage(object.distance(x, y));
            canvas.blend(column, row, [0.0; 3], 0.3 * shadow * (1.0 - covered));
            if covered > 0.0 {
                let colour = mix(object.colours[0], object.colours[1], object.texture.at(x, y));
                // Lit from the upper left.
                let light = -0.06 * ((x - centre[0]) + (y - centre[1])) / radius;
                canvas.blend(column, row, colour.map(|value| value + light), covered);
            }
            if covered > 0.5 {
                owner[row * canvas.width + column] = number;
            }
        }
    }
}

/// What is visible of the objects.
fn target(objects: &[Object], owner: &[u8], height: usize, width: usize) -> Target {
    let mut instances = Instances::default();
    let mut semantic = GrayImage::new(width as u32, height as u32);
    let mut largest = (0, None);
    for (number, object) in objects.iter().enumerate() {
        let mut mask = GrayImage::new(width as u32, height as u32);
        let (mut area, mut bounds) = (0_u32, [u32::MAX, u32::MAX, 0, 0]);
        for (position, _) in owner.iter().enumerate().filter(|(_, owner)| usize::from(**owner) == number) {
            let (x, y) = ((position % width) as u32, (position / width) as u32);
            mask.put_pixel(x, y, Luma([255]));
            semantic.put_pixel(x, y, Luma([object.class as u8 + 1]));
            let [x0, y0, x1, y1] = bounds;
            bounds = [x0.min(x), y0.min(y), x1.max(x + 1), y1.max(y + 1)];
            area += 1;
        }
        if area > 0 {
            let bbox = bounds.map(|side| side as f32);
            instances.annotate(object.class as u32, bbox, Mask::Rle(Rle::encode(&mask)));
            instances.areas.push(f64::from(area));
        }
        if area > largest.0 {
            largest = (area, Some(object.class));
        }
    }
    Target { class: largest.1, mixed: None, instances, semantic: Some(semantic) }
}
