//! Lists that many kernels of a step read, uploaded once.

use std::cell::RefCell;
use std::ptr;
use std::rc::Rc;
use std::sync::{Arc, Weak};

use cudarc::driver::CudaSlice;

use super::buffer::upload_plain;
use crate::Result;

/// What was uploaded of lists that live.
#[derive(Default)]
pub struct Lists(RefCell<Vec<(Weak<[u32]>, Rc<CudaSlice<u32>>)>>);

impl Lists {
    /// A list in memory of the card of this thread.
    pub fn uploaded(&self, list: &Arc<[u32]>) -> Result<Rc<CudaSlice<u32>>> {
        let mut known = self.0.borrow_mut();
        // As long as the weak reference is there, no other list gets the address.
        known.retain(|(list, _)| list.strong_count() > 0);
        if let Some((_, memory)) =
            known.iter().find(|(other, _)| ptr::addr_eq(other.as_ptr(), Arc::as_ptr(list)))
        {
            return Ok(Rc::clone(memory));
        }
        let memory = Rc::new(upload_plain(list)?);
        known.push((Arc::downgrade(list), Rc::clone(&memory)));
        Ok(memory)
    }
}

#[cfg(test)]
mod tests {
    use super::super::buffer::download_plain;
    use super::super::card::card;
    use super::*;

    #[test]
    fn a_list_is_uploaded_once_and_kept_while_it_lives() {
        card().unwrap();
        let (lists, list) = (Lists::default(), Arc::from([1, 2, 3]));
        let memory = lists.uploaded(&list).unwrap();
        assert!(Rc::ptr_eq(&memory, &lists.uploaded(&Arc::clone(&list)).unwrap()));
        let mut values = [0; 3];
        download_plain(&mut values, &memory).unwrap();
        assert_eq!(values, [1, 2, 3]);
        // The same numbers in another list.
        assert!(!Rc::ptr_eq(&memory, &lists.uploaded(&Arc::from([1, 2, 3])).unwrap()));
        drop(list);
        lists.uploaded(&Arc::from([4])).unwrap();
        assert_eq!((lists.0.borrow().len(), Rc::strong_count(&memory)), (1, 1));
    }
}
