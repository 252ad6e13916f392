//! What goes up to a card beside what that computes.

use std::cell::RefCell;
use std::sync::Arc;

use cudarc::driver::result::stream::{self, StreamKind};
use cudarc::driver::sys::{CUdeviceptr, CUstream};
use cudarc::driver::{CudaSlice, DevicePtr};

use super::buffer::scratch;
use super::card::{card, checked};
use super::event::Event;
use super::pinned::Pinned;
use crate::Result;

/// The uploads of a card, on a stream of their own. A training step uses two slots: of one the images are computed with while the next ones
/// come into the other.
pub struct Uploads {
    stream: CUstream,
    /// What was given to the null stream when the last upload began.
    launched: Event,
    slots: RefCell<Vec<Arc<Upload>>>,
}

/// Bytes on their way to a card, or there. Who drops it has given all that reads them to the null stream.
#[derive(Debug)]
pub struct Upload {
    host: Pinned,
    memory: CudaSlice<u8>,
}

impl Uploads {
    /// Of the card of this thread.
    pub fn new() -> Result<Self> {
        // Not in order with the null stream by itself.
        let stream = checked(stream::create(StreamKind::NonBlocking))?;
        Ok(Self { stream, launched: Event::new()?, slots: RefCell::default() })
    }

    /// Begins to copy parts, which come to lie one behind the other. It starts when what was launched before is done.
    pub fn start(&self, parts: &[&[u8]]) -> Result<Arc<Upload>> {
        let len = parts.iter().map(|part| part.len()).sum();
        let null = *card()?.device.cu_stream();
        let mut slots = self.slots.borrow_mut();
        let at = free_slot(&mut slots, len)?;
        let shared = &mut slots[at];
        let Some(upload) = Arc::get_mut(shared) else {
            return Err(crate::Error::Device("a slot of uploads is in use".to_owned()));
        };
        let mut bytes = upload.host.bytes()?;
        for part in parts {
            let (place, rest) = bytes.split_at_mut(part.len());
            place.copy_from_slice(part);
            bytes = rest;
        }
        // That may still read what is overwritten.
        self.launched.record(null)?;
        self.launched.precede(self.stream)?;
        upload.host.copy_to(*upload.memory.device_ptr(), len, self.stream)?;
        Ok(Arc::clone(shared))
    }
}

/// One that nobody holds, with room for so many bytes: another one if it has no room, and a new one if all are held.
fn free_slot(slots: &mut Vec<Arc<Upload>>, len: usize) -> Result<usize> {
    let is_free = |slot: &Arc<Upload>| Arc::strong_count(slot) == 1;
    if let Some(at) = slots.iter().position(|slot| is_free(slot) && slot.host.len() >= len) {
        return Ok(at);
    }
    let new = Arc::new(Upload { host: Pinned::new(len)?, memory: scratch(len)? });
    if let Some(at) = slots.iter().position(is_free) {
        slots[at] = new;
        return Ok(at);
    }
    slots.push(new);
    Ok(slots.len() - 1)
}

impl Upload {
    /// Where the bytes lie for what is launched from now on, which comes after their copy.
    pub fn address(&self) -> Result<CUdeviceptr> {
        self.host.precede(*card()?.device.cu_stream())?;
        Ok(*self.memory.device_ptr())
    }
}

#[cfg(test)]
mod tests {
    use cudarc::driver::result::memcpy_dtoh_sync;

    use super::*;

    /// What a launch would read.
    fn read(upload: &Upload, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        let address = upload.address().unwrap();
        // SAFETY: as many bytes were uploaded.
        unsafe { memcpy_dtoh_sync(&mut bytes, address) }.unwrap();
        bytes
    }

    #[test]
    fn parts_lie_one_behind_the_other() {
        card().unwrap();
        let upload = Uploads::new().unwrap().start(&[&[1, 2], &[], &[3]]).unwrap();
        assert_eq!(read(&upload, 3), [1, 2, 3]);
    }

    #[test]
    fn one_is_computed_with_while_another_one_comes() {
        card().unwrap();
        let uploads = Uploads::new().unwrap();
        let mut held = uploads.start(&[&[0; 100]]).unwrap();
        for step in 1..6 {
            // As the images of a step: the next ones come before these are read.
            let next = uploads.start(&[&[step; 100]]).unwrap();
            assert_eq!(read(&held, 100), [step - 1; 100]);
            held = next;
        }
        assert_eq!(uploads.slots.borrow().len(), 2);
    }

    #[test]
    fn slots_grow_and_are_as_many_as_are_held() {
        card().unwrap();
        let uploads = Uploads::new().unwrap();
        let lengths = || uploads.slots.borrow().iter().map(|slot| slot.host.len()).collect::<Vec<_>>();
        drop(uploads.start(&[&[0; 10]]).unwrap());
        drop(uploads.start(&[&[0; 5]]).unwrap());
        assert_eq!(lengths(), [10]);
        drop(uploads.start(&[&[0; 20]]).unwrap());
        assert_eq!(lengths(), [20]);
        let held: Vec<_> = (0..3).map(|value| uploads.start(&[&[value; 30]]).unwrap()).collect();
        assert_eq!(lengths(), [30; 3]);
        for (value, upload) in (0..).zip(&held) {
            assert_eq!(read(upload, 30), [value; 30]);
        }
    }
}
