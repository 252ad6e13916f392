//! Inference on images of other sizes than the model's: sliding windows, whole images, test-time
//! augmentation, and the way back from padded images.

mod image;
mod lsj_inference;
mod model;
mod scores;
mod slide_inference;
#[cfg(test)]
mod testing;
mod views;
mod whole_inference;

pub use lsj_inference::LsjInference;
pub use slide_inference::SlideInference;
pub use whole_inference::WholeInference;

/// Neither shrunk nor enlarged.
fn unscaled() -> Vec<f32> {
    vec![1.0]
}
