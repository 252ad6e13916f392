//! A neck: the same number of channels everywhere.

use convmae_framework::component::{
    Features, ImageShape, Level, LevelShape, Macs, Neck, NeckModule, Problem,
};
use convmae_framework::nn::layers::Linear;
use convmae_framework::nn::{self, Context, Scope};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Projects every level to the same number of channels, as the lateral connections of a feature pyramid.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProjectionNeck {
    /// Channels of every level that it yields.
    #[schemars(range(min = 1))]
    pub channels: usize,
}

#[typetag::serde]
impl Neck for ProjectionNeck {
    fn build(
        &self,
        scope: &Scope,
        _: ImageShape,
        levels: &[LevelShape],
    ) -> Result<Box<dyn NeckModule>, Problem> {
        let scope = scope.child("projection");
        let lateral = |(at, level): (usize, &LevelShape)| {
            let projection = Linear::new(&scope.child(at), level.channels, self.channels);
            (LevelShape { channels: self.channels, ..level.clone() }, projection)
        };
        Ok(Box::new(ProjectionModule { laterals: levels.iter().enumerate().map(lateral).collect() }))
    }
}

convmae_framework::register!(Neck: ProjectionNeck);

struct ProjectionModule {
    laterals: Vec<(LevelShape, Linear)>,
}

impl NeckModule for ProjectionModule {
    fn levels(&self) -> Vec<LevelShape> {
        self.laterals.iter().map(|(shape, _)| shape.clone()).collect()
    }

    fn macs(&self) -> Macs {
        self.laterals.iter().map(|(shape, lateral)| Macs::same(lateral.macs(shape.tokens()))).sum()
    }

    fn forward(&self, features: &Features, ctx: &Context) -> nn::Result<Features> {
        let project = |(level, (shape, lateral)): (&Level, &(LevelShape, Linear))| {
            Ok(Level { shape: shape.clone(), tokens: lateral.forward(level.tokens.clone(), ctx)? })
        };
        let levels = features.levels.iter().zip(&self.laterals).map(project).collect::<nn::Result<_>>()?;
        Ok(Features { levels, mask: features.mask.clone() })
    }
}
