//! Strided views of storages, made contiguous.

use super::super::pickle::{Array, StorageRef, TensorRef};
use super::super::tensor::{HostTensor, TensorError, byte_len};

/// Bytes of the contiguous tensor.
///
/// # Errors
/// If the shape overflows or the view reaches beyond its storage's declared length.
pub(super) fn checked_len(view: &TensorRef) -> Result<usize, TensorError> {
    let bytes = byte_len(view.storage.dtype, &view.shape)?;
    let last = view.shape.iter().zip(&view.strides).try_fold(view.offset, |last, (&axis, &stride)| {
        last.checked_add(axis.saturating_sub(1).checked_mul(stride)?)
    });
    if bytes == 0 || last.is_some_and(|last| last < view.storage.len) {
        return Ok(bytes);
    }
    Err(TensorError::View {
        shape: view.shape.clone(),
        strides: view.strides.clone(),
        offset: view.offset,
        len: view.storage.len,
    })
}

/// Copies the view out of `storage`, which has the length the view declares.
pub(super) fn gather(view: &TensorRef, storage: &[u8]) -> Result<HostTensor, TensorError> {
    let bytes = checked_len(view)?;
    let (dtype, size) = (view.storage.dtype, view.storage.dtype.size());
    let mut data = Vec::with_capacity(bytes);
    if bytes > 0 {
        if is_contiguous(view) {
            let start = view.offset * size;
            data.extend_from_slice(&storage[start..start + bytes]);
        } else {
            copy_axes(&mut data, storage, size, view.offset, &view.shape, &view.strides);
        }
    }
    HostTensor::new(dtype, view.shape.clone(), data)
}

/// An array of numpy, its last axis innermost.
pub(super) fn contiguous(array: &Array) -> Result<HostTensor, TensorError> {
    let Array { dtype, shape, fortran, data } = array;
    if !fortran {
        return HostTensor::new(*dtype, shape.clone(), data.clone());
    }
    let bytes = byte_len(*dtype, shape)?;
    if bytes != data.len() {
        let (shape, found) = (shape.clone(), data.len());
        return Err(TensorError::Size { dtype: *dtype, shape, expected: bytes, found });
    }
    // A product overflows only beside an empty axis, and then no stride is used.
    let next = |stride: usize, axis: usize| stride.wrapping_mul(axis.max(1));
    let strides = shape.iter().scan(1, |stride, &axis| Some(std::mem::replace(stride, next(*stride, axis))));
    let view = TensorRef {
        storage: StorageRef { key: String::new(), dtype: *dtype, len: data.len() / dtype.size() },
        offset: 0,
        shape: shape.clone(),
        strides: strides.collect(),
    };
    gather(&view, data)
}

fn is_contiguous(view: &TensorRef) -> bool {
    let mut expected = 1;
    view.shape.iter().zip(&view.strides).rev().all(|(&axis, &stride)| {
        let fits = axis == 1 || stride == expected;
        expected *= axis;
        fits
    })
}

fn copy_axes(
    data: &mut Vec<u8>,
    storage: &[u8],
    size: usize,
    offset: usize,
    shape: &[usize],
    strides: &[usize],
) {
    let ([axis, shape @ ..], [stride, strides @ ..]) = (shape, strides) else {
        data.extend_from_slice(&storage[offset * size..][..size]);
        return;
    };
    for index in 0..*axis {
        copy_axes(data, storage, size, offset + index * stride, shape, strides);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::super::super::pickle::StorageRef;
    use super::*;
    use crate::DType;

    fn view(len: usize, offset: usize, shape: &[usize], strides: &[usize]) -> TensorRef {
        TensorRef {
            storage: StorageRef { key: "0".into(), dtype: DType::U8, len },
            offset,
            shape: shape.to_vec(),
            strides: strides.to_vec(),
        }
    }

    #[test]
    fn transposed_expanded_and_offset_views_become_contiguous() {
        let storage = [0, 1, 2, 3, 4, 5];
        let gathered = |view: &TensorRef| gather(view, &storage).unwrap().data;
        assert_eq!(gathered(&view(6, 0, &[2, 3], &[3, 1])), storage);
        assert_eq!(gathered(&view(6, 0, &[3, 2], &[1, 3])), [0, 3, 1, 4, 2, 5]);
        assert_eq!(gathered(&view(6, 4, &[2, 2], &[1, 0])), [4, 4, 5, 5]);
        assert_eq!(gathered(&view(6, 5, &[], &[])), [5]);
        assert_eq!(gathered(&view(0, 9, &[0, 3], &[3, 1])), [0u8; 0]);
    }

    #[test]
    fn an_array_with_its_first_axis_innermost_is_transposed() {
        let array = |data: &[u8], shape: &[usize], fortran| Array {
            dtype: DType::U8,
            shape: shape.to_vec(),
            fortran,
            data: data.to_vec(),
        };
        let values = |array: Array| contiguous(&array).map(|tensor| tensor.data);
        assert_eq!(values(array(&[0, 1, 2, 3, 4, 5], &[2, 3], true)).unwrap(), [0, 2, 4, 1, 3, 5]);
        assert_eq!(values(array(&[0, 1, 2, 3, 4, 5], &[2, 3], false)).unwrap(), [0, 1, 2, 3, 4, 5]);
        assert_eq!(values(array(&[], &[0, usize::MAX], true)).unwrap(), [0u8; 0]);
        assert!(values(array(&[0; 5], &[2, 3], true)).is_err());
        assert!(values(array(&[0; 5], &[2, 3], false)).is_err());
    }

    #[test]
    fn overflowing_views_are_refused() {
        for view in [
            view(6, 6, &[], &[]),
            view(6, 0, &[2, 3], &[4, 1]),
            view(6, usize::MAX, &[2], &[1]),
            view(6, 0, &[3], &[usize::MAX]),
            view(6, 0, &[usize::MAX, usize::MAX], &[0, 0]),
        ] {
            assert!(gather(&view, &[0; 6]).is_err(), "{view:?}");
        }
    }

    proptest! {
        #[test]
        fn a_view_is_either_refused_or_within_its_storage(
            len in 0usize..40,
            offset in 0usize..40,
            axes in prop::collection::vec((0usize..5, 0usize..20), 0..4),
        ) {
            let (shape, strides): (Vec<_>, Vec<_>) = axes.into_iter().unzip();
            let view = view(len, offset, &shape, &strides);
            let storage: Vec<u8> = (0..len as u8).collect();
            if let Ok(tensor) = gather(&view, &storage) {
                let count = shape.iter().product::<usize>();
                prop_assert_eq!(tensor.data.len(), count);
                for (number, &element) in tensor.data.iter().enumerate() {
                    // The index along each axis, the last axis first.
                    let mut rest = number;
                    let at = shape.iter().zip(&strides).rev().fold(offset, |at, (&axis, &stride)| {
                        let index = rest % axis;
                        rest /= axis;
                        at + index * stride
                    });
                    prop_assert_eq!(element, storage[at]);
                }
            }
        }
    }
}
