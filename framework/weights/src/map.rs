//! Named tensors in the order of the model.

use std::collections::HashMap;

use super::tensor::HostTensor;

/// Named tensors, kept in the order they were inserted in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TensorMap {
    entries: Vec<(String, HostTensor)>,
    index: HashMap<String, usize>,
}

impl TensorMap {
    /// An empty map.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a tensor, or replaces the one of the same name in its place and returns the old one.
    pub fn insert(&mut self, name: impl Into<String>, tensor: HostTensor) -> Option<HostTensor> {
        let name = name.into();
        if let Some(&at) = self.index.get(&name) {
            return Some(std::mem::replace(&mut self.entries[at].1, tensor));
        }
        self.index.insert(name.clone(), self.entries.len());
        self.entries.push((name, tensor));
        None
    }

    /// The tensor called `name`.
    pub fn get(&self, name: &str) -> Option<&HostTensor> {
        self.index.get(name).map(|&at| &self.entries[at].1)
    }

    /// Whether there is a tensor called `name`.
    pub fn contains(&self, name: &str) -> bool {
        self.index.contains_key(name)
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no tensors.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Names and tensors in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &HostTensor)> {
        self.entries.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// Names in order.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.entries.iter().map(|(name, _)| name.as_str())
    }

    /// Number of elements of all tensors.
    pub fn elements(&self) -> usize {
        self.iter().map(|(_, tensor)| tensor.len()).sum()
    }

    /// Bytes of all tensors.
    pub fn bytes(&self) -> usize {
        self.iter().map(|(_, tensor)| tensor.data.len()).sum()
    }

    /// Splits off the tensors whose name starts with `prefix`, without that prefix; returns them and the
    /// rest.
    #[must_use]
    pub fn split_prefix(self, prefix: &str) -> (Self, Self) {
        let (mut inside, mut rest) = (Self::new(), Self::new());
        for (name, tensor) in self {
            match name.strip_prefix(prefix) {
                Some(short) => inside.insert(short, tensor),
                None => rest.insert(name, tensor),
            };
        }
        (inside, rest)
    }
}

impl IntoIterator for TensorMap {
    type Item = (String, HostTensor);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.into_iter()
    }
}

impl<S: Into<String>> Extend<(S, HostTensor)> for TensorMap {
    fn extend<I: IntoIterator<Item = (S, HostTensor)>>(&mut self, tensors: I) {
        for (name, tensor) in tensors {
            self.insert(name, tensor);
        }
    }
}

impl<S: Into<String>> FromIterator<(S, HostTensor)> for TensorMap {
    fn from_iter<I: IntoIterator<Item = (S, HostTensor)>>(tensors: I) -> Self {
        let mut map = Self::new();
        map.extend(tensors);
        map
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_that_of_insertion_and_a_repeated_name_replaces_in_place() {
        let mut map: TensorMap = [("b", 1), ("a", 2), ("c", 3)]
            .map(|(name, value)| (name, HostTensor::scalar_i64(value)))
            .into_iter()
            .collect();
        assert_eq!(map.insert("a", HostTensor::scalar_i64(9)), Some(HostTensor::scalar_i64(2)));
        assert_eq!(map.names().collect::<Vec<_>>(), ["b", "a", "c"]);
        assert_eq!(map.get("a"), Some(&HostTensor::scalar_i64(9)));
    }

    #[test]
    fn split_prefix_strips_and_keeps_order() {
        let map: TensorMap = ["model.x", "ema.x", "model.y", "modelz"]
            .map(|name| (name, HostTensor::scalar_i64(0)))
            .into_iter()
            .collect();
        let (model, rest) = map.split_prefix("model.");
        assert_eq!(model.names().collect::<Vec<_>>(), ["x", "y"]);
        assert_eq!(rest.names().collect::<Vec<_>>(), ["ema.x", "modelz"]);
    }
}
