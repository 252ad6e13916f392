//! Processes that succeed together, or fail together with one message.

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::EngineError;
use crate::distributed::Communicator;
use crate::metrics::state;

/// What a process gives in the place of its part of a work.
#[derive(Serialize, Deserialize)]
pub enum Told<T> {
    /// The part.
    Done(T),
    /// Why there is none.
    Failed(String),
}

impl<T> Told<T> {
    /// What this process tells the others.
    pub fn of<E: Diagnostic>(own: Result<T, &E>) -> Self {
        own.map_or_else(|error| Self::Failed(whole(error)), Self::Done)
    }

    /// What another process has told.
    ///
    /// # Errors
    /// Its failure.
    pub fn by(self, rank: usize) -> Result<T, EngineError> {
        match self {
            Self::Done(part) => Ok(part),
            Self::Failed(message) => Err(EngineError::OtherProcess { rank, message }),
        }
    }
}

/// What all processes have, in order of rank. Waits for all of them.
///
/// # Errors
/// This process's own failure; that of the first one that failed, where any did.
pub fn gather<T: Serialize + DeserializeOwned>(
    communicator: &dyn Communicator,
    own: Result<T, EngineError>,
) -> Result<Vec<T>, EngineError> {
    let all = exchange(communicator, own.as_ref())?;
    own?;
    parts(all)
}

/// What this process has, once all have theirs.
///
/// # Errors
/// As [`gather`].
pub fn together<T, E>(communicator: &dyn Communicator, own: Result<T, E>) -> Result<T, E>
where
    E: Diagnostic + From<EngineError>,
{
    let all = exchange(communicator, own.as_ref().map(|_| &()))?;
    let own = own?;
    parts::<()>(all)?;
    Ok(own)
}

fn exchange<T: Serialize, E: Diagnostic>(
    communicator: &dyn Communicator,
    own: Result<&T, &E>,
) -> Result<Vec<Vec<u8>>, EngineError> {
    Ok(communicator.all_gather(&state::write(&Told::of(own)))?)
}

/// An error with all that belongs to it, as it is printed.
fn whole(error: &impl Diagnostic) -> String {
    let handler = GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor()).without_cause_chain();
    let mut text = String::new();
    match handler.render_report(&mut text, error) {
        Ok(()) => text,
        Err(_) => error.to_string(),
    }
}

fn parts<T: DeserializeOwned>(all: Vec<Vec<u8>>) -> Result<Vec<T>, EngineError> {
    let part = |(rank, told): (usize, Vec<u8>)| state::read::<Told<T>>(&told)?.by(rank);
    all.into_iter().enumerate().map(part).collect()
}

/// What the first process does for all, once it is done.
///
/// # Errors
/// As [`gather`].
pub fn first(
    communicator: &dyn Communicator,
    work: impl FnOnce() -> Result<(), EngineError>,
) -> Result<(), EngineError> {
    together(communicator, if communicator.is_first() { work() } else { Ok(()) })
}
