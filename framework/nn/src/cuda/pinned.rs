//! Page-locked memory of the host, which a card copies from and to by itself.

use std::ffi::c_void;
use std::ptr::{self, NonNull};

use cudarc::driver::sys::{self, CUdeviceptr, CUstream};

use super::card::{card, checked};
use super::event::Event;
use crate::Result;

/// Bytes of the host that are locked in its memory. Nobody gets at them while a copy is under way.
#[derive(Debug)]
pub struct Pinned {
    memory: NonNull<u8>,
    len: usize,
    copied: Event,
}

// SAFETY: nobody else has the memory but copies, which all ways to it wait for.
unsafe impl Send for Pinned {}
// SAFETY: as above; nothing changes through a shared reference.
unsafe impl Sync for Pinned {}

impl Pinned {
    /// At least one byte, all zeros.
    pub fn new(len: usize) -> Result<Self> {
        card()?;
        let copied = Event::new()?;
        let (mut memory, len) = (ptr::null_mut::<c_void>(), len.max(1));
        // SAFETY: the driver writes an address; a card's context is current.
        checked(unsafe { sys::cuMemHostAlloc(&raw mut memory, len, 0) }.result())?;
        // SAFETY: the driver gives memory that is as long, if it gives any.
        unsafe { ptr::write_bytes(memory.cast::<u8>(), 0, len) };
        let memory = NonNull::new(memory.cast()).ok_or(crate::Error::OutOfMemory)?;
        Ok(Self { memory, len, copied })
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The bytes, when the last copy is done.
    pub fn bytes(&mut self) -> Result<&mut [u8]> {
        self.copied.wait()?;
        // SAFETY: `len` bytes, written when they were allocated, which are borrowed mutably and which no copy accesses any more.
        Ok(unsafe { std::slice::from_raw_parts_mut(self.memory.as_ptr(), self.len) })
    }

    /// Begins a copy of the first `len` bytes to memory of the card, in the order of the stream.
    ///
    /// The memory is as long, and lives until the copy is done: whoever calls this has seen to it.
    pub fn copy_to(&mut self, address: CUdeviceptr, len: usize, stream: CUstream) -> Result<()> {
        assert!(len <= self.len);
        self.copied.wait()?;
        // SAFETY: the caller's promise; the locked bytes are not accessed before `copied` has happened, and not freed either.
        checked(unsafe {
            sys::cuMemcpyHtoDAsync_v2(address, self.memory.as_ptr().cast(), len, stream).result()
        })?;
        self.copied.record(stream)
    }

    /// Begins a copy of `len` bytes from memory of the card to the first ones, in the order of the stream. The memory as in
    /// [`Pinned::copy_to`].
    pub fn copy_from(&mut self, address: CUdeviceptr, len: usize, stream: CUstream) -> Result<()> {
        assert!(len <= self.len);
        self.copied.wait()?;
        // SAFETY: as in `copy_to`.
        checked(unsafe {
            sys::cuMemcpyDtoHAsync_v2(self.memory.as_ptr().cast(), address, len, stream).result()
        })?;
        self.copied.record(stream)
    }

    /// What the stream is given from now on comes after the last copy.
    pub fn precede(&self, later: CUstream) -> Result<()> {
        self.copied.precede(later)
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // Memory that a copy might still access is rather kept.
        if self.copied.wait().is_ok() {
            // SAFETY: the driver's own memory, which nobody accesses any more.
            unsafe { sys::cuMemFreeHost(self.memory.as_ptr().cast()) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{download, upload, zeros};
    use super::*;

    #[test]
    fn copies_go_both_ways_in_the_order_of_the_stream() {
        let card = card().unwrap();
        let stream = *card.device.cu_stream();
        let from = upload(vec![1.0, 2.0]).unwrap();
        let mut pinned = Pinned::new(8).unwrap();
        pinned.copy_from(from.address(), 8, stream).unwrap();
        drop(from);
        let values: Vec<f32> = bytemuck::pod_collect_to_vec(pinned.bytes().unwrap());
        assert_eq!(values, [1.0, 2.0]);
        pinned.bytes().unwrap()[..4].copy_from_slice(&3.0_f32.to_ne_bytes());
        let to = zeros(2).unwrap();
        pinned.copy_to(to.address(), 4, stream).unwrap();
        pinned.precede(stream).unwrap();
        assert_eq!(download(&to).unwrap(), [3.0, 0.0]);
    }
}
