//! The card of a thread: its memory, its kernels and its products.

use std::cell::{OnceCell, Ref, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use cudarc::cublas::CudaBlas;
use cudarc::driver::{CudaDevice, CudaSlice, DeviceSlice};

use super::blaslt::Plans;
use super::lists::Lists;
use super::module::Functions;
use super::uploads::Uploads;
use crate::Result;
use crate::device::{self, DeviceError, DeviceName};
use crate::error::Error;

/// A card that this thread computes on.
pub struct Card {
    pub device: Arc<CudaDevice>,
    pub blas: CudaBlas,
    pub products: Plans,
    pub functions: Functions,
    pub lists: Lists,
    counters: RefCell<Option<CudaSlice<u32>>>,
    uploads: OnceCell<Uploads>,
}

impl Card {
    /// What goes up beside what is computed.
    pub fn uploads(&self) -> Result<&Uploads> {
        if let Some(uploads) = self.uploads.get() {
            return Ok(uploads);
        }
        let new = Uploads::new()?;
        Ok(self.uploads.get_or_init(|| new))
    }

    /// At least that many zeros, which kernels count with, one after the other, and leave as zeros.
    pub fn counters(&self, count: usize) -> Result<Ref<'_, CudaSlice<u32>>> {
        let has_enough = |counters: &CudaSlice<u32>| DeviceSlice::len(counters) >= count;
        if !self.counters.borrow().as_ref().is_some_and(has_enough) {
            let counters = checked(self.device.alloc_zeros(count.max(1024)))?;
            self.counters.replace(Some(counters));
        }
        Ref::filter_map(self.counters.borrow(), Option::as_ref)
            .map_err(|_| Error::Device("there are no counters".to_owned()))
    }
}

thread_local! {
    static CARDS: RefCell<HashMap<u16, Rc<Card>>> = RefCell::default();
}

/// The card of this thread, whose context becomes the current one: that of dfdx's device of the same name.
pub fn card() -> Result<Rc<Card>> {
    let DeviceName::Cuda(number) = device::name()? else { return Err(Error::BuiltWithCuda) };
    if let Some(card) = CARDS.with_borrow(|cards| cards.get(&number).cloned()) {
        checked(card.device.bind_to_thread())?;
        return Ok(card);
    }
    let device = checked(CudaDevice::new(usize::from(number)))?;
    let blas = checked(CudaBlas::new(Arc::clone(&device)))?;
    let card = Rc::new(Card {
        device,
        blas,
        products: Plans::default(),
        functions: Functions::default(),
        lists: Lists::default(),
        counters: RefCell::default(),
        uploads: OnceCell::new(),
    });
    CARDS.with_borrow_mut(|cards| cards.insert(number, Rc::clone(&card)));
    Ok(card)
}

/// The result of the driver or of a library, with an error as those of dfdx.
pub fn checked<T, E>(result: Result<T, E>) -> Result<T>
where
    DeviceError: From<E>,
{
    Ok(result.map_err(DeviceError::from)?)
}
