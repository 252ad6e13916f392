//! The objects of an image.

use super::Mask;

/// The annotated objects of an image: one after the other, in arrays of the same length; `masks` and `areas`
/// may be missing altogether.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Instances {
    /// `[x0, y0, x1, y1]` in pixels, the end exclusive.
    pub boxes: Vec<[f32; 4]>,
    /// Indices of their classes.
    pub classes: Vec<u32>,
    /// Where they are; empty if only boxes are known.
    pub masks: Vec<Mask>,
    /// Whether the annotation is of a group that is not told apart (COCO's `iscrowd`).
    pub crowd: Vec<bool>,
    /// Their areas in square pixels as they were annotated (COCO's `area`, which decides whether an object is
    /// small, medium or large); empty if nobody did.
    pub areas: Vec<f64>,
}

impl Instances {
    /// Number of objects.
    pub fn len(&self) -> usize {
        self.boxes.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.boxes.is_empty()
    }

    /// Adds an annotated object, which is no crowd.
    pub fn annotate(&mut self, class: u32, bbox: [f32; 4], mask: Mask) {
        self.boxes.push(bbox);
        self.classes.push(class);
        self.masks.push(mask);
        self.crowd.push(false);
    }

    /// Moves the box and the mask of every object; one for which `shape` returns false is dropped.
    pub fn transform(&mut self, mut shape: impl FnMut(&mut [f32; 4], Option<&mut Mask>) -> bool) {
        let mut masks = self.masks.iter_mut();
        let kept: Vec<bool> = self.boxes.iter_mut().map(|bbox| shape(bbox, masks.next())).collect();
        retain(&mut self.boxes, &kept);
        retain(&mut self.classes, &kept);
        retain(&mut self.masks, &kept);
        retain(&mut self.crowd, &kept);
        retain(&mut self.areas, &kept);
    }
}

fn retain<T>(values: &mut Vec<T>, kept: &[bool]) {
    let mut kept = kept.iter();
    values.retain(|_| kept.next().is_none_or(|&kept| kept));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_object_leaves_every_array() {
        let square = |side: f64| Mask::Polygons(vec![vec![[0.0, 0.0], [side, 0.0], [side, side]]]);
        let mut instances = Instances::default();
        for class in 0..3_u8 {
            instances.annotate(class.into(), [0.0, 0.0, class.into(), 1.0], square(class.into()));
        }
        instances.transform(|bbox, mask| {
            bbox[0] += 1.0;
            mask.is_some() && bbox[2] < 2.0
        });
        assert_eq!(instances.boxes, [[1.0, 0.0, 0.0, 1.0], [1.0, 0.0, 1.0, 1.0]]);
        assert_eq!((instances.classes, instances.crowd), (vec![0, 1], vec![false; 2]));
        assert_eq!(instances.masks, [square(0.0), square(1.0)]);
        assert!(instances.areas.is_empty());
    }
}
