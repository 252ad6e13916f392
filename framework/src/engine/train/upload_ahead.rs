//! Images on their way to the device while it computes with those before.

use crate::data::{Batch, DataError};
use crate::loader::Epoch;

/// The batches of an epoch. When one is handed out, the images of the next one start for the device, if it is
/// ready by then.
pub struct UploadAhead(pub Epoch);

impl Iterator for UploadAhead {
    type Item = Result<Batch, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.0.next()?;
        // What fails here fails again, and is told, where the images are needed.
        for batch in batch.iter().chain(self.0.ready()) {
            let _ = batch.images.upload();
        }
        Some(batch)
    }
}
