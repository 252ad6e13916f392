//! What detectron2 computes: the files of `tests/data/detection`.

#![allow(clippy::unwrap_used)]

use convmae_framework::data::{Instances, Mask};
use safetensors::SafeTensors;

/// A golden file.
pub struct Golden(Vec<u8>);

impl Golden {
    pub fn read(name: &str) -> Self {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/detection/");
        Self(std::fs::read(format!("{folder}{name}.safetensors")).unwrap())
    }

    fn tensor(&self, name: &str) -> (&[u8], Vec<usize>) {
        let tensor = SafeTensors::deserialize(&self.0).unwrap().tensor(name).unwrap();
        (tensor.data(), tensor.shape().to_vec())
    }

    pub fn names(&self) -> Vec<String> {
        let tensors = SafeTensors::deserialize(&self.0).unwrap();
        tensors.names().into_iter().map(ToString::to_string).collect()
    }

    pub fn shape(&self, name: &str) -> Vec<usize> {
        self.tensor(name).1
    }

    pub fn bytes(&self, name: &str) -> &[u8] {
        self.tensor(name).0
    }

    pub fn floats(&self, name: &str) -> Vec<f32> {
        let (bytes, _) = self.bytes(name).as_chunks::<4>();
        bytes.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    }

    pub fn boxes(&self, name: &str) -> Vec<[f32; 4]> {
        let floats = self.floats(name);
        let (boxes, rest) = floats.as_chunks::<4>();
        assert!(rest.is_empty(), "{name}");
        boxes.to_vec()
    }

    /// Maps `[B, C, H, W]` with their channels last, and their shape then.
    pub fn maps(&self, name: &str) -> (Vec<f32>, [usize; 4]) {
        let values = self.floats(name);
        let [batch, channels, height, width] = self.shape(name).try_into().unwrap();
        let positions = height * width;
        let at = |index: usize| {
            let (image, position) = (index / channels / positions, index / channels % positions);
            values[(image * channels + index % channels) * positions + position]
        };
        ((0..values.len()).map(at).collect(), [batch, height, width, channels])
    }

    /// Of 64 or 32 bits.
    pub fn indices(&self, name: &str) -> Vec<usize> {
        let (bytes, shape) = self.tensor(name);
        let width = bytes.len() / shape.iter().product::<usize>().max(1);
        let number =
            |bytes: &[u8]| bytes.iter().rev().fold(0, |number, &byte| number << 8 | usize::from(byte));
        bytes.chunks_exact(width.max(1)).map(number).collect()
    }

    /// Of a row of packed bits, the most significant one first.
    pub fn bits(&self, name: &str, row: usize) -> Vec<bool> {
        let (bytes, shape) = self.tensor(name);
        let bytes = &bytes[row * shape[1]..][..shape[1]];
        bytes.iter().flat_map(|byte| (0..8).map(move |bit| byte >> (7 - bit) & 1 == 1)).collect()
    }
}

/// The objects of the images that the goldens are trained on.
pub fn train_gt() -> Vec<Instances> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/detection/train_gt.json");
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let of_image = |objects: &serde_json::Value| {
        let mut instances = Instances::default();
        for object in objects.as_array().unwrap() {
            let polygons: Vec<Vec<f64>> = serde_json::from_value(object["polygons"].clone()).unwrap();
            let polygons = polygons.iter().map(|corners| corners.as_chunks().0.to_vec()).collect();
            let bbox = serde_json::from_value(object["gt_box_xyxy"].clone()).unwrap();
            instances.annotate(object["category"].as_u64().unwrap() as u32, bbox, Mask::Polygons(polygons));
        }
        instances
    };
    json["images"].as_array().unwrap().iter().map(of_image).collect()
}

/// The anchors of all levels of an image.
pub fn anchors() -> Vec<[f32; 4]> {
    let golden = Golden::read("anchors");
    (2..7).flat_map(|level| golden.boxes(&format!("anchors_p{level}"))).collect()
}

/// Asserts that no value is off by more than `tolerance`, or as much of the expected one if that is larger.
#[track_caller]
pub fn assert_near(name: &str, actual: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(actual.len(), expected.len(), "{name}");
    for (at, (actual, expected)) in actual.iter().zip(expected).enumerate() {
        let error = (actual - expected).abs();
        let is_near = error <= tolerance * expected.abs().max(1.0);
        assert!(is_near, "{name}: value {at} is {actual}, expected {expected} (off by {error:e})");
    }
}
