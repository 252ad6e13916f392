//! The contract of the registry: one trait per kind of component.
//!
//! A component is plain data: a struct that derives `Serialize`, `Deserialize` and `JsonSchema`, implements
//! the trait of its kind under `#[typetag::serde]`, and is announced with [`register!`](crate::register) so
//! that recipes are checked and documented by its schema. It answers for its shapes before anything is
//! allocated, and then builds a module that does the work.

mod backbone;
mod batch_transform;
mod confusion;
mod dataset;
mod evaluator;
mod head;
mod inference;
mod instance_head;
mod masker;
mod neck;
mod optimizer;
mod package;
mod pooling;
mod prediction;
mod regions;
mod registry;
mod roi_mask;
mod schedule;
mod shape;
mod span;
mod task;
mod transform;

pub use backbone::{Backbone, BackboneModule, Features, Level};
pub use batch_transform::BatchTransform;
pub use confusion::Confusion;
pub use dataset::{Dataset, Samples};
pub use evaluator::{ClassFigures, Evaluator, FeatureNeeds, Measured, Meter, MeterError, Needs, Support};
pub use head::{Head, HeadInputs, HeadModule, Loss, Picture};
pub use inference::{Inference, Predict};
pub use instance_head::{Found, InstanceHead, InstanceHeadInputs, InstanceHeadModule};
pub use masker::{Mask, MaskGrid, MaskPlan, Masker};
pub use neck::{Neck, NeckModule};
pub use optimizer::{Optimizer, OptimizerModule, ParameterGroup};
pub use package::Package;
pub use pooling::Pooling;
pub use prediction::{Logits, PixelLogits, Prediction, Reconstruction, Semantic};
pub use regions::Regions;
pub use registry::{Entry, Kind, entries, entry, optional_slot, packages};
pub use roi_mask::{PastedMask, RoiMask};
pub use schedule::{Progress, Schedule, Training};
pub use shape::{ImageShape, LevelShape, Macs};
pub use span::{Span, SpanError};
pub use task::{Task, TaskKind};
pub use transform::{SampleShape, Transform};

pub use crate::recipe::Problem;
