//! An aggregate that several places hold: one in memory for as long as none of them changes it.
//!
//! Most entities do little, so what a tick adds is all that there is of them: in the combiner, in differential's trace and
//! in every window. Invariant: what adds up to nothing is nothing, and takes no memory.

use std::sync::Arc;

use differential_dataflow::difference::{Abelian, IsZero, Monoid, Semigroup};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::aggregate::Aggregate;

/// A shared [`Aggregate`]; `None` of nothing. In an image it stands as one.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sum(Option<Arc<Aggregate>>);

impl Sum {
    #[must_use]
    pub fn of(aggregate: Aggregate) -> Self {
        Self((!aggregate.is_zero()).then(|| Arc::new(aggregate)))
    }

    /// `None` of nothing.
    #[must_use]
    pub const fn get(&self) -> Option<&Arc<Aggregate>> {
        self.0.as_ref()
    }

    /// Whether both are one in memory.
    pub(super) fn is(&self, other: &Self) -> bool {
        matches!((&self.0, &other.0), (Some(one), Some(other)) if Arc::ptr_eq(one, other))
    }

    /// Whether no other place holds it.
    pub(super) fn is_alone(&self) -> bool {
        self.0.as_ref().is_none_or(|sum| Arc::strong_count(sum) == 1)
    }
}

impl IsZero for Sum {
    fn is_zero(&self) -> bool {
        self.0.is_none()
    }
}

impl Semigroup for Sum {
    fn plus_equals(&mut self, other: &Self) {
        let Some(more) = &other.0 else { return };
        let Some(sum) = &mut self.0 else {
            self.0 = Some(Arc::clone(more));
            return;
        };
        let sum = Arc::make_mut(sum);
        sum.plus_equals(&**more);
        if sum.is_zero() {
            self.0 = None;
        }
    }
}

impl Monoid for Sum {
    fn zero() -> Self {
        Self::default()
    }
}

impl Abelian for Sum {
    fn negate(&mut self) {
        if let Some(sum) = &mut self.0 {
            Arc::make_mut(sum).negate();
        }
    }
}

impl Serialize for Sum {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Some(sum) => sum.as_ref().serialize(to),
            None => Aggregate::default().serialize(to),
        }
    }
}

impl<'de> Deserialize<'de> for Sum {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Aggregate::deserialize(from).map(Self::of)
    }
}
