//! The grids of position embeddings: weights name them, and between two of them embeddings are interpolated.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::nn::{Param, Positions};
use crate::weights::interpolate_positions;

/// The key of the grids, as JSON, in the metadata of a run's final weights.
const KEY: &str = "convmae.positions";

/// Prefix tokens, rows and columns of position embeddings, by name.
#[derive(Debug, Default)]
pub struct SavedGrids(BTreeMap<String, [usize; 3]>);

impl SavedGrids {
    /// Those of a model.
    pub fn of_params(params: &[Param]) -> Self {
        let grid = |param: &Param| {
            let Positions { prefix, rows, cols } = param.positions()?;
            Some((param.name().to_owned(), [prefix, rows, cols]))
        };
        Self(params.iter().filter_map(grid).collect())
    }

    /// Those in the metadata of weights, if they bring them.
    pub fn of_weights(metadata: &Map<String, Value>) -> Self {
        let grids = metadata.get(KEY).and_then(Value::as_str);
        Self(grids.and_then(|grids| serde_json::from_str(grids).ok()).unwrap_or_default())
    }

    /// As an entry of the metadata of weights.
    pub fn entry(&self) -> (String, String) {
        (KEY.to_owned(), serde_json::json!(self.0).to_string())
    }

    /// The grid of a parameter, which may have got a prefix since.
    fn grid(&self, name: &str) -> Option<Positions> {
        let is_it =
            |saved: &str| name == saved || name.strip_suffix(saved).is_some_and(|rest| rest.ends_with('.'));
        let (_, &[prefix, rows, cols]) = self.0.iter().find(|(saved, _)| is_it(saved))?;
        Some(Positions { prefix, rows, cols })
    }

    /// How a tensor of this shape becomes a parameter's position embedding, if that is of another grid. A
    /// grid that the weights do not name is taken to be square, and that of the model if it has as many
    /// positions.
    pub fn interpolation(&self, param: &Param, file: &[usize]) -> Option<Interpolation> {
        let (&[1, tokens, dim], &[1, own_tokens, own_dim]) = (file, param.shape()) else { return None };
        let to = param.positions()?;
        let positions = tokens.checked_sub(to.prefix).filter(|&positions| positions > 0 && dim == own_dim)?;
        let from = match self.grid(param.name()) {
            Some(from) if from.prefix + from.rows * from.cols == tokens => (from.rows, from.cols),
            _ if tokens == own_tokens => return None,
            _ => (positions.isqrt(), positions.isqrt()),
        };
        (from.0 * from.1 == positions && from != (to.rows, to.cols)).then_some(Interpolation {
            from,
            to,
            dim,
        })
    }
}

/// From one grid to another.
#[derive(Debug, PartialEq, Eq)]
pub struct Interpolation {
    from: (usize, usize),
    to: Positions,
    dim: usize,
}

impl Interpolation {
    /// The embeddings of the new grid.
    pub fn apply(&self, values: &[f32]) -> Vec<f32> {
        let Positions { prefix, rows, cols } = self.to;
        interpolate_positions(values, self.dim, prefix, self.from, (rows, cols))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::nn::{Init, Scope};

    fn embedding(name: &str, rows: usize, cols: usize) -> Param {
        let scope = Scope::describe().at_positions(Positions { prefix: 1, rows, cols });
        scope.param(name, &[1, 1 + rows * cols, 6], &Init::ZEROS)
    }

    fn from(saved: &SavedGrids, param: &Param, tokens: usize) -> Option<(usize, usize)> {
        saved.interpolation(param, &[1, tokens, 6]).map(|interpolation| interpolation.from)
    }

    #[test]
    fn a_grid_that_weights_name_is_kept_and_found_behind_a_prefix() {
        let (key, value) = SavedGrids::of_params(&[embedding("pos_embed", 8, 2)]).entry();
        let saved = SavedGrids::of_weights(&Map::from_iter([(key, Value::String(value))]));
        for name in ["pos_embed", "backbone.pos_embed"] {
            // As many positions, elsewhere.
            assert_eq!(from(&saved, &embedding(name, 4, 4), 17), Some((8, 2)));
            assert_eq!(from(&saved, &embedding(name, 8, 2), 17), None);
            assert_eq!(from(&saved, &embedding(name, 3, 3), 17), Some((8, 2)));
        }
        assert_eq!(from(&saved, &embedding("decoder_pos_embed", 3, 3), 17), Some((4, 4)));
    }

    #[test]
    fn an_unnamed_grid_is_square_and_one_of_as_many_positions_is_taken_as_it_is() {
        let saved = SavedGrids::default();
        assert_eq!(from(&saved, &embedding("pos_embed", 3, 5), 17), Some((4, 4)));
        assert_eq!(from(&saved, &embedding("pos_embed", 8, 2), 17), None);
        assert_eq!(from(&saved, &embedding("pos_embed", 3, 5), 14), None, "13 positions are no square");
        assert_eq!(saved.interpolation(&embedding("pos_embed", 3, 5), &[1, 17, 5]), None);
    }
}
