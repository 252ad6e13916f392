//! Marks in the work that a stream is given.

use cudarc::driver::result::{DriverError, event, stream};
use cudarc::driver::sys::{self, CUevent, CUevent_flags, CUevent_wait_flags, CUstream};

use super::card::checked;
use crate::Result;

/// A mark behind what a stream was given. It happens when all of that is done; before it is recorded, it has happened.
#[derive(Debug)]
pub struct Event(CUevent);

// SAFETY: a handle of the driver, which takes it from any thread.
unsafe impl Send for Event {}
// SAFETY: as above.
unsafe impl Sync for Event {}

impl Event {
    /// One of the card of this thread ([`super::card`]), without a time.
    pub fn new() -> Result<Self> {
        checked(event::create(CUevent_flags::CU_EVENT_DISABLE_TIMING)).map(Self)
    }

    /// Marks what the stream was given so far, and no longer what was marked before.
    pub fn record(&self, stream: CUstream) -> Result<()> {
        // SAFETY: the event lives, and so does the stream, by the caller's promise: a card keeps its streams.
        checked(unsafe { event::record(self.0, stream) })
    }

    /// Waits until it has happened.
    pub fn wait(&self) -> Result<()> {
        // SAFETY: the event lives.
        checked(unsafe { sys::cuEventSynchronize(self.0) }.result())
    }

    /// What the stream is given from now on comes after it.
    pub fn precede(&self, later: CUstream) -> Result<()> {
        // SAFETY: the event lives, and so does the stream, by the caller's promise.
        checked(unsafe { stream::wait_event(later, self.0, CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT) })
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: the event is not used any more; the driver itself keeps what still waits for it.
        let _: Result<(), DriverError> = unsafe { event::destroy(self.0) };
    }
}
