//! The components of this crate, one per file.

mod checkerboard_masker;
mod known_objects_head;
// The one of `convmae new`.
#[path = "../../../framework/src/cli/new/plugin/mean_color_head.rs"]
mod mean_color_head;
mod mean_shape_head;
mod patch_vote_head;
mod projection_neck;
mod window_attention;
mod window_attention_neck;

pub use checkerboard_masker::CheckerboardMasker;
pub use known_objects_head::KnownObjectsHead;
pub use mean_color_head::MeanColorHead;
pub use mean_shape_head::MeanShapeHead;
pub use patch_vote_head::PatchVoteHead;
pub use projection_neck::ProjectionNeck;
pub use window_attention::WindowAttention;
pub use window_attention_neck::WindowAttentionNeck;
