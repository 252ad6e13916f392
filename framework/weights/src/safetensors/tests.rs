use std::fs;

use super::*;

fn sample() -> TensorMap {
    [
        ("z.weight", HostTensor::from_f32(vec![2, 2], &[1.0, 2.0, 3.0, 4.0]).unwrap()),
        ("flag", HostTensor::new(DType::Bool, vec![3], vec![1, 0, 1]).unwrap()),
        ("a.bias", HostTensor::from_f32(vec![0], &[]).unwrap()),
        ("step", HostTensor::scalar_i64(7)),
        ("half", HostTensor::new(DType::BF16, vec![1], vec![0x80, 0x3f]).unwrap()),
    ]
    .into_iter()
    .collect()
}

fn metadata() -> BTreeMap<String, String> {
    [("format".to_owned(), "pt".to_owned()), ("epoch".to_owned(), "3".to_owned())].into()
}

#[test]
fn a_written_file_reads_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("w.safetensors");
    write_safetensors(&path, &sample(), &metadata()).unwrap();
    let back = read_safetensors(&path).unwrap();
    assert_eq!((&back.metadata, &back.digest), (&metadata(), &None));
    assert_eq!(back.tensors.len(), sample().len());
    for (name, tensor) in sample().iter() {
        assert_eq!(back.tensors.get(name), Some(tensor), "{name}");
    }
    // The crate itself agrees.
    let bytes = fs::read(&path).unwrap();
    assert_eq!(safetensors::SafeTensors::deserialize(&bytes).unwrap().len(), sample().len());
}

#[test]
fn tensors_of_one_type_keep_the_order_of_the_model() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("w.safetensors");
    let tensors: TensorMap = ["patch", "blocks.10", "blocks.2", "norm"]
        .map(|name| (name, HostTensor::from_f32(vec![1], &[0.0]).unwrap()))
        .into_iter()
        .collect();
    write_safetensors(&path, &tensors, &BTreeMap::new()).unwrap();
    assert_eq!(read_safetensors(&path).unwrap().tensors, tensors);
}

#[test]
fn equal_weights_are_equal_files() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("w.safetensors");
    let metadata: BTreeMap<_, _> = (0..8).map(|key| (key.to_string(), String::new())).collect();
    let mut written = (0..4).map(|_| {
        write_safetensors(&path, &sample(), &metadata).unwrap();
        fs::read(&path).unwrap()
    });
    let first = written.next().unwrap();
    assert!(written.all(|bytes| bytes == first));
}

#[test]
fn a_sealed_file_refuses_every_changed_byte() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("w.safetensors");
    let digest = write_sealed(&path, &sample(), &metadata()).unwrap();
    let back = read_safetensors(&path).unwrap();
    assert_eq!((back.digest.as_deref(), back.metadata), (Some(digest.as_str()), metadata()));
    let good = fs::read(&path).unwrap();
    for at in 0..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        fs::write(&path, bytes).unwrap();
        let read = read_safetensors(&path);
        assert!(read.is_err() || read.is_ok_and(|file| file.digest.is_none()), "byte {at}");
    }
}

#[test]
fn a_truncated_file_is_refused_with_its_path() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("w.safetensors");
    write_safetensors(&path, &sample(), &metadata()).unwrap();
    let good = fs::read(&path).unwrap();
    for len in 0..good.len() {
        fs::write(&path, &good[..len]).unwrap();
        let error = read_safetensors(&path).unwrap_err().to_string();
        assert!(error.starts_with(&path.display().to_string()), "{error}");
    }
}

#[test]
fn a_header_longer_than_the_file_is_refused_without_allocating_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("w.safetensors");
    for len in [u64::MAX, 99_000_000, 3] {
        let mut bytes = len.to_le_bytes().to_vec();
        bytes.extend_from_slice(b"{}");
        fs::write(&path, bytes).unwrap();
        let error = read_safetensors(&path).unwrap_err().to_string();
        assert!(error.contains("does not fit a file of 10"), "{error}");
    }
}

#[test]
fn data_that_does_not_fit_its_shape_is_not_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("w.safetensors");
    let broken = HostTensor { dtype: DType::F32, shape: vec![2], data: vec![0; 4] };
    let error =
        write_safetensors(&path, &[("w", broken)].into_iter().collect(), &BTreeMap::new()).unwrap_err();
    assert!(error.to_string().contains("tensor `w`: F32 [2] takes 8 bytes"), "{error}");
    assert!(!path.exists());
}

#[test]
fn a_type_without_counterpart_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("w.safetensors");
    let header = br#"{"w":{"dtype":"U16","shape":[1],"data_offsets":[0,2]}}"#;
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header);
    bytes.extend_from_slice(&[0, 0]);
    fs::write(&path, bytes).unwrap();
    let error = read_safetensors(&path).unwrap_err().to_string();
    assert!(error.contains("tensor `w` is of type U16"), "{error}");
}
