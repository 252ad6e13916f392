//! Boxes, `[x0, y0, x1, y1]` in pixels, the end exclusive (`detectron2.structures.Boxes`).

/// The part within an image of a height and a width.
pub fn clip([x0, y0, x1, y1]: [f32; 4], [height, width]: [usize; 2]) -> [f32; 4] {
    let (height, width) = (height as f32, width as f32);
    [x0.clamp(0.0, width), y0.clamp(0.0, height), x1.clamp(0.0, width), y1.clamp(0.0, height)]
}

/// Whether width and height are larger than `threshold`.
pub fn nonempty([x0, y0, x1, y1]: [f32; 4], threshold: f32) -> bool {
    x1 - x0 > threshold && y1 - y0 > threshold
}
