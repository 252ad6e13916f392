//! The tensors that a trace is given.

use std::collections::HashMap;
use std::path::Path;

use image::GrayImage;

use crate::data::{Batch, Mixed, Normalization, Target};
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
        let &[count, 3, height, width] = images.shape.as_slice() else {
            return Err(format!("`images` has the shape {:?}, not [B, 3, height, width]", images.shape));
        };
        let batch = Batch::new(
            images.to_f32(),
            (height, width),
            Normalization { mean: [0.0; 3], std: [1.0; 3] },
            targets(&mut tensors, count)?,
            (0..count).map(|image| format!("{}[{image}]", path.display())).collect(),
        );
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
        |name: &str| tensors.remove(name).map(|tensor| per_image(name, &tensor, count)).transpose();
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

/// A number for each image.
fn per_image(name: &str, tensor: &HostTensor, count: usize) -> Result<Vec<f32>, String> {
    if tensor.shape == [count] {
        return Ok(tensor.to_f32());
    }
    Err(format!("`{name}` has the shape {:?}, not [{count}], a number for each image", tensor.shape))
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
