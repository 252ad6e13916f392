//! Where the processes of a step meet: at normalisations whose statistics they share, and at its end.

use std::cell::RefCell;
use std::rc::Rc;

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

use crate::distributed::Communicator;
use crate::engine::EngineError;
use crate::engine::together::Told;
use crate::metrics::state;
use crate::nn;
use crate::nn::layers::shared_statistics::{Exchange, Part};

/// What a process gives when all meet.
#[derive(Serialize, Deserialize)]
enum Given<T> {
    /// What it knows of a normalisation.
    Statistics(Part),
    /// What it has at the end of the step.
    End(Told<T>),
}

/// The processes that compute a step. One that is through, or has no batch, comes by wherever the others meet.
pub struct Meeting {
    communicator: Rc<dyn Communicator>,
    /// Why there is nothing to go on with, as soon as all know it.
    failed: RefCell<Option<EngineError>>,
}

impl Meeting {
    /// At the beginning of a step.
    pub fn new(communicator: Rc<dyn Communicator>) -> Self {
        Self { communicator, failed: RefCell::default() }
    }

    /// What all processes have at the end of the step, in order of rank.
    ///
    /// # Errors
    /// This process's own failure; that of the first one that failed, where any did.
    pub fn end<T: Serialize + DeserializeOwned>(
        &self,
        own: Result<T, EngineError>,
    ) -> Result<Vec<T>, EngineError> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let given = state::write(&Given::End(Told::of(own.as_ref())));
        loop {
            let all = self.meet::<T>(&given)?;
            let processes = all.len();
            let (mut ends, mut failed) = (Vec::with_capacity(processes), None);
            for (rank, given) in all.into_iter().enumerate() {
                match given {
                    Given::Statistics(_) => {}
                    Given::End(told) => match told.by(rank) {
                        Ok(end) => ends.push(end),
                        Err(error) => failed = failed.or(Some(error)),
                    },
                }
            }
            if let Some(error) = failed {
                return Err(own.err().unwrap_or(error));
            }
            if ends.len() == processes {
                return Ok(ends);
            }
        }
    }

    /// What all processes give.
    fn meet<T: DeserializeOwned>(&self, own: &[u8]) -> Result<Vec<Given<T>>, EngineError> {
        let all = self.communicator.all_gather(own)?;
        all.iter().map(|given| Ok(state::read(given)?)).collect()
    }

    fn statistics(&self, own: Part) -> Result<Vec<Part>, EngineError> {
        let all = self.meet(&state::write(&Given::<()>::Statistics(own)))?;
        let mut parts = Vec::with_capacity(all.len());
        for (rank, given) in all.into_iter().enumerate() {
            match given {
                Given::Statistics(part) => parts.push(part),
                Given::End(told) => {
                    let _: IgnoredAny = told.by(rank)?;
                }
            }
        }
        Ok(parts)
    }
}

impl Exchange for Meeting {
    fn exchange(&self, own: Part) -> nn::Result<Vec<Part>> {
        self.statistics(own).map_err(|error| {
            let reason = error.to_string();
            self.failed.replace(Some(error));
            nn::Error::Value(reason)
        })
    }

    fn is_first(&self) -> bool {
        self.communicator.is_first()
    }
}
