//! The tensors that a trace is given.

use std::collections::HashMap;
use std::path::Path;

use image::GrayImage;

use crate::data::{Batch, Instances, Mask, Mixed, Normalization, Rle, Target};
use crate::engine::EngineError;
use crate::weights::{self, HostTensor, TensorMap};

/// The tensors that are given.
pub(super) struct Inputs {
    pub batch: Batch,
    /// Shape and values of what would be drawn at random, by name.
    pub given: HashMap<String, (Vec<usize>, Vec<f32>)>,
}

impl Inputs {
    /// Reads a safetensors file.
    pub fn read(path: &Path) -> Result<Self, EngineError> {
        Self::new(weights::read(path)?.tensors, path)
            .map_err(|what| EngineError::Usage(format!("{}: {what}", path.display())))
    }

    fn new(tensors: TensorMap, path: &Path) -> Result<Self, String> {
        let mut tensors: HashMap<String, HostTensor> = tensors.into_iter().collect();
        let images = tensors.remove("images").ok_or("there is no tensor `images`")?;
        let &[count, channels, height, width] = images.shape.as_slice() else {
            return Err(format!(
                "`images` has the shape {:?}, not [B, channels, height, width]",
                images.shape
            ));
        };
        let mut targets = targets(&mut tensors, count)?;
        for (target, instances) in targets.iter_mut().zip(objects(&mut tensors, count, [height, width])?) {
            target.instances = instances;
        }
        let sizes =
            tensors.remove("sizes").map(|sizes| image_sizes(&sizes, count, [height, width])).transpose()?;
        let mut batch = Batch::new(
            images.to_f32(),
            (height, width),
            Normalization::identity(channels),
            targets,
            (0..count).map(|image| format!("{}[{image}]", path.display())).collect(),
        );
        if let Some(sizes) = sizes {
            batch.originals.iter_mut().zip(&sizes).for_each(|(original, &size)| original.size = size);
            batch.sizes = sizes;
        }
        let values = |tensor: HostTensor| (tensor.shape.clone(), tensor.to_f32());
        Ok(Self { batch, given: tensors.into_iter().map(|(name, tensor)| (name, values(tensor))).collect() })
    }

    /// What is given for a single pass.
    pub fn values(&self) -> HashMap<String, Vec<f32>> {
        self.given.iter().map(|(name, (_, values))| (name.clone(), values.clone())).collect()
    }

    /// What is given for one of several steps: the leading axis counts them.
    pub fn of_step(&self, step: u64, steps: u64) -> HashMap<String, Vec<f32>> {
        let part = |values: &[f32]| {
            let size = values.len() / steps as usize;
            values[step as usize * size..][..size].to_vec()
        };
        self.given.iter().map(|(name, (_, values))| (name.clone(), part(values))).collect()
    }
}

/// What is to be predicted of each image: `labels`, and what is mixed in, `mixed_labels` with `mixed_share`;
/// the labels of the pixels, `label_maps`.
fn targets(tensors: &mut HashMap<String, HostTensor>, count: usize) -> Result<Vec<Target>, String> {
    let maps = tensors.remove("label_maps").map(|tensor| label_maps(&tensor, count)).transpose()?;
    let mut take =
        |name: &str| tensors.remove(name).map(|tensor| numbers(name, &tensor, count, "image")).transpose();
    let (labels, others, shares) = (take("labels")?, take("mixed_labels")?, take("mixed_share")?);
    let mut targets = vec![Target::default(); count];
    if let Some(labels) = &labels {
        for (target, &label) in targets.iter_mut().zip(labels) {
            target.class = Some(class("labels", label)?);
        }
    }
    match (labels, others, shares) {
        (_, None, None) => {}
        (Some(_), Some(others), Some(shares)) => {
            for (target, (other, share)) in targets.iter_mut().zip(others.into_iter().zip(shares)) {
                if !(0.0..=1.0).contains(&share) {
                    return Err(format!("`mixed_share` holds {share}: a share lies between 0 and 1"));
                }
                target.mixed = Some(Mixed { class: class("mixed_labels", other)?, share });
            }
        }
        _ => {
            return Err(
                "`labels`, `mixed_labels` and `mixed_share` belong together: one is missing".to_owned()
            );
        }
    }
    for (target, map) in targets.iter_mut().zip(maps.into_iter().flatten()) {
        target.semantic = Some(map);
    }
    Ok(targets)
}

/// Height and width of each image without its padding, of `[B, 2]`.
fn image_sizes(tensor: &HostTensor, count: usize, padded: [usize; 2]) -> Result<Vec<[usize; 2]>, String> {
    if tensor.shape != [count, 2] {
        return Err(format!("`sizes` has the shape {:?}, not [{count}, 2]", tensor.shape));
    }
    let size = |&size: &[f32; 2]| {
        let fits = size
            .iter()
            .zip(padded)
            .all(|(&side, most)| side.fract() == 0.0 && side >= 1.0 && side <= most as f32);
        let [height, width] = padded;
        match fits {
            true => Ok(size.map(|side| side as usize)),
            false => Err(format!(
                "`sizes` holds {size:?}: whole pixels, up to {height} x {width}, the padded size"
            )),
        }
    };
    tensor.to_f32().as_chunks().0.iter().map(size).collect()
}

/// A label map for each image, of `[B, height, width]`.
fn label_maps(tensor: &HostTensor, count: usize) -> Result<Vec<GrayImage>, String> {
    let &[maps, height @ 1..=usize::MAX, width @ 1..=usize::MAX] = tensor.shape.as_slice() else {
        return Err(format!("`label_maps` has the shape {:?}, not [B, height, width]", tensor.shape));
    };
    if maps != count {
        return Err(format!("there are {maps} `label_maps` for {count} images"));
    }
    let label = |value: f32| match value {
        0.0..=255.0 if value.fract() == 0.0 => Ok(value as u8),
        _ => Err(format!("`label_maps` holds {value}: a label is a whole number from 0 to 255")),
    };
    let labels = tensor.to_f32().into_iter().map(label).collect::<Result<Vec<u8>, _>>()?;
    let maps = labels.chunks_exact(height * width);
    Ok(maps.filter_map(|map| GrayImage::from_raw(width as u32, height as u32, map.to_vec())).collect())
}

/// The annotated objects of each image: `boxes` `[N, 4]` with `box_classes` `[N]` and the image that each is
/// in, `box_images` `[N]`; their masks, `box_masks` `[N, height, width]`.
fn objects(
    tensors: &mut HashMap<String, HostTensor>,
    count: usize,
    size: [usize; 2],
) -> Result<Vec<Instances>, String> {
    let mut objects = vec![Instances::default(); count];
    let masks = tensors.remove("box_masks");
    let (boxes, classes, images) = match ["boxes", "box_classes", "box_images"]
        .map(|name| tensors.remove(name))
    {
        [Some(boxes), Some(classes), Some(images)] => (boxes, classes, images),
        [None, None, None] if masks.is_none() => return Ok(objects),
        _ => return Err("`boxes`, `box_classes` and `box_images` belong together: one is missing".to_owned()),
    };
    let &[number, 4] = boxes.shape.as_slice() else {
        return Err(format!("`boxes` has the shape {:?}, not [N, 4]", boxes.shape));
    };
    let classes = numbers("box_classes", &classes, number, "box")?;
    let images = numbers("box_images", &images, number, "box")?;
    let mut masks = masks.map(|masks| box_masks(&masks, number, size)).transpose()?.map(Vec::into_iter);
    for ((bbox, label), image) in boxes.to_f32().as_chunks().0.iter().zip(classes).zip(images) {
        let whole = image.fract() == 0.0 && image >= 0.0;
        let Some(instances) = objects.get_mut(image as usize).filter(|_| whole) else {
            return Err(format!("`box_images` holds {image}: there are {count} images, counted from 0"));
        };
        instances.boxes.push(*bbox);
        instances.classes.push(class("box_classes", label)? as u32);
        instances.crowd.push(false);
        instances.masks.extend(masks.as_mut().and_then(Iterator::next));
    }
    Ok(objects)
}

/// The mask of each box, of `[N, height, width]`.
fn box_masks(tensor: &HostTensor, number: usize, [height, width]: [usize; 2]) -> Result<Vec<Mask>, String> {
    if tensor.shape != [number, height, width] {
        return Err(format!(
            "`box_masks` has the shape {:?}, not [{number}, {height}, {width}], a mask for each box",
            tensor.shape
        ));
    }
    let values = tensor.to_f32();
    if let Some(other) = values.iter().find(|&&value| value != 0.0 && value != 1.0) {
        return Err(format!("`box_masks` holds {other}: a pixel is 0 or 1"));
    }
    let pixels: Vec<u8> = values.iter().map(|&value| u8::from(value > 0.0)).collect();
    let maps = pixels.chunks_exact((height * width).max(1));
    let map = |pixels: &[u8]| GrayImage::from_raw(width as u32, height as u32, pixels.to_vec());
    Ok(maps.filter_map(map).map(|map| Mask::Rle(Rle::encode(&map))).collect())
}

/// A number for each `what`.
fn numbers(name: &str, tensor: &HostTensor, count: usize, what: &str) -> Result<Vec<f32>, String> {
    if tensor.shape == [count] {
        return Ok(tensor.to_f32());
    }
    Err(format!("`{name}` has the shape {:?}, not [{count}], a number for each {what}", tensor.shape))
}

/// Larger indices are not exact in `f32`, as which tensors are read.
const MAX_CLASS: f32 = 16_777_216.0;

fn class(name: &str, label: f32) -> Result<usize, String> {
    if label.fract() == 0.0 && (0.0..MAX_CLASS).contains(&label) {
        return Ok(label as usize);
    }
    Err(format!("`{name}` holds {label}: the index of a class is a whole number, 0 or more"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// Two images of a pixel, and more tensors with one axis.
    fn read(more: &[(&str, &[f32])]) -> Result<Inputs, String> {
        let mut tensors = TensorMap::new();
        tensors.insert("images", HostTensor::from_f32(vec![2, 3, 1, 1], &[0.0; 6]).unwrap());
        for (name, values) in more {
            tensors.insert(*name, HostTensor::from_f32(vec![values.len()], values).unwrap());
        }
        Inputs::new(tensors, Path::new("in.safetensors"))
    }

    #[test]
    fn labels_become_targets_and_the_rest_is_given() {
        let inputs = read(&[("labels", &[4.0, 0.0]), ("noise", &[0.5])]).unwrap();
        let classes: Vec<_> = inputs.batch.targets.iter().map(|target| target.class).collect();
        assert_eq!(classes, [Some(4), Some(0)]);
        assert_eq!(inputs.given.keys().collect::<Vec<_>>(), ["noise"]);
        let mixture: [(&str, &[f32]); 3] =
            [("labels", &[4.0, 0.0]), ("mixed_labels", &[0.0, 4.0]), ("mixed_share", &[0.25, 1.0])];
        let inputs = read(&mixture).unwrap();
        assert_eq!(inputs.batch.targets[0].mixed, Some(Mixed { class: 0, share: 0.25 }));
        assert!(inputs.given.is_empty());
        assert_eq!(read(&[]).unwrap().batch.targets[1].class, None);
    }

    #[test]
    fn label_maps_become_targets() {
        let read = |shape: &[usize], values: &[f32]| {
            let mut tensors = TensorMap::new();
            tensors.insert("images", HostTensor::from_f32(vec![1, 3, 1, 2], &[0.0; 6]).unwrap());
            tensors.insert("label_maps", HostTensor::from_f32(shape.to_vec(), values).unwrap());
            Inputs::new(tensors, Path::new("in.safetensors"))
        };
        let map = read(&[1, 1, 2], &[3.0, 255.0]).unwrap().batch.targets[0].semantic.clone().unwrap();
        assert_eq!((map.dimensions(), map.as_raw().as_slice()), ((2, 1), &[3, 255][..]));
        let message = |shape: &[usize], values: &[f32]| read(shape, values).err().unwrap();
        assert!(message(&[1, 2], &[0.0; 2]).contains("not [B, height, width]"));
        assert!(message(&[2, 1, 1], &[0.0; 2]).contains("2 `label_maps` for 1 images"));
        assert!(message(&[1, 1, 2], &[0.0, 256.0]).contains("holds 256"));
    }

    #[test]
    fn images_may_be_smaller_than_the_batch() {
        let sizes = |shape: &[usize], values: &[f32]| read_objects(&[("sizes", shape, values)]);
        let batch = sizes(&[2, 2], &[1.0, 2.0, 1.0, 1.0]).unwrap().batch;
        assert_eq!(batch.sizes, [[1, 2], [1, 1]]);
        assert_eq!(batch.originals[1].size, [1, 1]);
        let message = |shape: &[usize], values: &[f32]| sizes(shape, values).err().unwrap();
        assert!(message(&[2], &[1.0, 1.0]).contains("[2], not [2, 2]"));
        for wrong in [0.0, 1.5, 3.0, f32::NAN] {
            let text = message(&[2, 2], &[1.0, 1.0, 1.0, wrong]);
            assert!(text.ends_with("whole pixels, up to 1 x 2, the padded size"), "{text}");
        }
    }

    /// Two images of 1 x 2 pixels with these tensors of objects.
    fn read_objects(more: &[(&str, &[usize], &[f32])]) -> Result<Inputs, String> {
        let mut tensors = TensorMap::new();
        tensors.insert("images", HostTensor::from_f32(vec![2, 3, 1, 2], &[0.0; 12]).unwrap());
        for (name, shape, values) in more {
            tensors.insert(*name, HostTensor::from_f32(shape.to_vec(), values).unwrap());
        }
        Inputs::new(tensors, Path::new("in.safetensors"))
    }

    const BOXES: (&str, &[usize], &[f32]) = ("boxes", &[2, 4], &[0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 2.0, 1.0]);
    const CLASSES: (&str, &[usize], &[f32]) = ("box_classes", &[2], &[4.0, 0.0]);
    const IMAGES: (&str, &[usize], &[f32]) = ("box_images", &[2], &[1.0, 1.0]);

    #[test]
    fn boxes_become_the_objects_of_their_images() {
        let masks: (&str, &[usize], &[f32]) = ("box_masks", &[2, 1, 2], &[1.0, 0.0, 0.0, 1.0]);
        let inputs = read_objects(&[BOXES, CLASSES, IMAGES, masks]).unwrap();
        assert!(inputs.given.is_empty() && inputs.batch.targets[0].instances.is_empty());
        let objects = &inputs.batch.targets[1].instances;
        assert_eq!(objects.boxes, [[0.0, 0.0, 1.0, 1.0], [1.0, 0.0, 2.0, 1.0]]);
        assert_eq!((objects.classes.as_slice(), objects.crowd.as_slice()), (&[4, 0][..], &[false; 2][..]));
        let bounds: Vec<_> = objects.masks.iter().map(|mask| mask.bounds().unwrap()).collect();
        assert_eq!(bounds, objects.boxes);
        assert_eq!(*inputs.batch.originals[1].instances, *objects);
        let unmasked = read_objects(&[BOXES, CLASSES, IMAGES]).unwrap();
        assert!(unmasked.batch.targets[1].instances.masks.is_empty());
        let none =
            read_objects(&[("boxes", &[0, 4], &[]), ("box_classes", &[0], &[]), ("box_images", &[0], &[])]);
        assert!(none.unwrap().batch.targets.iter().all(|target| target.instances.is_empty()));
    }

    #[test]
    fn objects_that_do_not_fit_are_refused_in_words() {
        let message = |more: &[(&str, &[usize], &[f32])]| read_objects(more).err().unwrap();
        let together = "`boxes`, `box_classes` and `box_images` belong together: one is missing";
        assert_eq!(message(&[BOXES, CLASSES]), together);
        assert_eq!(message(&[("box_masks", &[0, 1, 2], &[])]), together);
        assert!(message(&[("boxes", &[4], &[0.0; 4]), CLASSES, IMAGES]).contains("[4], not [N, 4]"));
        assert_eq!(
            message(&[BOXES, ("box_classes", &[1], &[0.0]), IMAGES]),
            "`box_classes` has the shape [1], not [2], a number for each box"
        );
        assert!(message(&[BOXES, ("box_classes", &[2], &[0.0, 0.5]), IMAGES]).contains("holds 0.5"));
        for image in [2.0, 0.5, -1.0, f32::NAN] {
            let text = message(&[BOXES, CLASSES, ("box_images", &[2], &[0.0, image])]);
            assert_eq!(text, format!("`box_images` holds {image}: there are 2 images, counted from 0"));
        }
        let masks = |shape: &[usize], values: &[f32]| {
            message(&[BOXES, CLASSES, IMAGES, ("box_masks", shape, values)])
        };
        assert!(masks(&[2, 2, 1], &[0.0; 4]).contains("not [2, 1, 2], a mask for each box"));
        assert!(masks(&[2, 1, 2], &[0.0, 1.0, 0.0, 255.0]).contains("holds 255: a pixel is 0 or 1"));
    }

    #[test]
    fn targets_that_do_not_fit_are_refused_in_words() {
        let message = |more: &[(&str, &[f32])]| read(more).err().unwrap();
        assert!(message(&[("labels", &[1.0])]).contains("`labels` has the shape [1], not [2]"));
        assert!(message(&[("labels", &[1.0, -1.0])]).contains("`labels` holds -1"));
        assert!(message(&[("labels", &[1.0, 0.5])]).contains("`labels` holds 0.5"));
        let labels: (&str, &[f32]) = ("labels", &[1.0, 2.0]);
        assert!(message(&[labels, ("mixed_labels", &[1.0, 2.0])]).contains("one is missing"));
        assert!(
            message(&[("mixed_labels", &[1.0, 2.0]), ("mixed_share", &[0.1, 0.2])])
                .contains("belong together")
        );
        let others: (&str, &[f32]) = ("mixed_labels", &[1.0, 2.0]);
        assert!(message(&[labels, others, ("mixed_share", &[0.1, 1.2])]).contains("`mixed_share` holds 1.2"));
    }
}
