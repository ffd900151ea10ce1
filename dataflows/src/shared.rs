//! How what is shared in memory stands in an image: once for each place that has it.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub(crate) fn serialize<T: Serialize + ?Sized, S: Serializer>(of: &Arc<T>, to: S) -> Result<S::Ok, S::Error> {
    T::serialize(of, to)
}

pub(crate) fn deserialize<'de, T: ?Sized, D: Deserializer<'de>>(from: D) -> Result<Arc<T>, D::Error>
where
    Box<T>: Deserialize<'de>,
{
    Box::<T>::deserialize(from).map(Arc::from)
}
