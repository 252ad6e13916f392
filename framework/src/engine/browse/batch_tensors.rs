//! A batch as tensors: those that `trace` reads.

use crate::component::Mask;
use crate::data::{Batch, Target};
use crate::weights::{HostTensor, TensorMap};

/// What the model gets of a batch, under the names that `trace --inputs` takes: `images`, and of the targets those that all
/// images have. `noise` `[B, L]` draws the mask again: the tokens with the least of it are kept.
pub fn batch_tensors(batch: &Batch, mask: Option<&Mask>) -> TensorMap {
    let mut tensors = TensorMap::new();
    let mut insert = |name: &str, shape: Vec<usize>, values: &[f32]| {
        // What has another shape is not given: label maps of other sizes than their images.
        if let Ok(tensor) = HostTensor::from_f32(shape, values) {
            tensors.insert(name, tensor);
        }
    };
    let count = batch.len();
    insert("images", vec![count, batch.channels(), batch.height, batch.width], &batch.images.values());
    let padded = [batch.height, batch.width];
    if batch.sizes.iter().any(|size| *size != padded) {
        let sizes: Vec<f32> = batch.sizes.iter().flatten().map(|side| *side as f32).collect();
        insert("sizes", vec![count, 2], &sizes);
    }
    if let Some(labels) = all(batch, |target| target.class.map(|class| class as f32)) {
        insert("labels", vec![count], &labels);
        let mixed = |target: &Target| target.mixed.map(|mixed| (mixed.class as f32, mixed.share));
        if let Some((classes, shares)) =
            all(batch, mixed).map(|mixed| mixed.into_iter().unzip::<_, _, Vec<_>, Vec<_>>())
        {
            insert("mixed_labels", vec![count], &classes);
            insert("mixed_share", vec![count], &shares);
        }
    }
    if let Some(maps) = all(batch, |target| target.semantic.as_ref()) {
        let labels: Vec<f32> =
            maps.iter().flat_map(|map| map.as_raw()).map(|label| f32::from(*label)).collect();
        insert("label_maps", vec![count, batch.height, batch.width], &labels);
    }
    let objects = || batch.targets.iter().enumerate().map(|(image, target)| (image, &target.instances));
    let boxes: Vec<f32> = objects().flat_map(|(_, of)| of.boxes.iter().flatten().copied()).collect();
    if !boxes.is_empty() {
        let classes: Vec<f32> =
            objects().flat_map(|(_, of)| of.classes.iter().map(|class| *class as f32)).collect();
        let images: Vec<f32> = objects().flat_map(|(image, of)| vec![image as f32; of.len()]).collect();
        insert("boxes", vec![classes.len(), 4], &boxes);
        insert("box_classes", vec![classes.len()], &classes);
        insert("box_images", vec![classes.len()], &images);
    }
    if let Some(mask) = mask.filter(|mask| mask.stages.is_empty()) {
        let tokens = mask.grid.tokens();
        // The first mask of each image has the others' tokens in their order, too.
        let places = mask.ids_restore.chunks_exact(tokens).step_by(mask.masks).flatten();
        let noise: Vec<f32> = places.map(|place| *place as f32 / tokens as f32).collect();
        insert("noise", vec![count, tokens], &noise);
    }
    tensors
}

/// What all targets have.
fn all<'a, T>(batch: &'a Batch, of: impl Fn(&'a Target) -> Option<T>) -> Option<Vec<T>> {
    batch.targets.iter().map(of).collect()
}
