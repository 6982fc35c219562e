//! What a writer has of a series' key when it looks for the series: a key of its own, or only the parts of one.

use std::sync::Arc;

use super::names::Names;
use crate::key::{Key, Kind, Scope, Tags};

/// A key's parts, not yet put together: enough to find a series.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeyParts<'a> {
    pub(super) name: &'a str,
    pub(super) kind: Kind,
    pub(super) scope: Scope,
    /// Sorted, as [`Tags::joined`] has them.
    pub(super) tags: &'a str,
    pub(super) hash: u64,
}

/// A series that somebody wants to change, by what they have of its key.
pub(super) trait Wanted {
    fn parts(&self) -> KeyParts<'_>;

    fn is_of(&self, key: &Arc<Key>) -> bool;

    /// The table has the series under `key`.
    fn found(&mut self, key: &Arc<Key>);

    /// The key to put into the table.
    fn key(&mut self) -> Arc<Key>;

    fn name(&self) -> Arc<str>;
}

/// Parts whose name others may share.
pub(super) struct NamedParts<'a> {
    pub(super) parts: KeyParts<'a>,
    pub(super) names: &'a mut Names,
}

/// A key that is there already. It becomes the table's own if that is an equal one in other memory: so all writers come to share one copy.
impl Wanted for &mut Arc<Key> {
    fn parts(&self) -> KeyParts<'_> {
        KeyParts {
            name: Key::name(self),
            kind: self.kind(),
            scope: self.scope(),
            tags: self.tags().joined(),
            hash: self.hash64(),
        }
    }

    #[inline]
    fn is_of(&self, key: &Arc<Key>) -> bool {
        Arc::ptr_eq(self, key) || **self == *key
    }

    #[inline]
    fn found(&mut self, key: &Arc<Key>) {
        if !Arc::ptr_eq(self, key) {
            **self = Arc::clone(key);
        }
    }

    fn key(&mut self) -> Arc<Key> {
        Arc::clone(self)
    }

    fn name(&self) -> Arc<str> {
        Arc::clone(Key::name(self))
    }
}

impl KeyParts<'_> {
    fn to_key(self, name: Arc<str>) -> Arc<Key> {
        let tags = Tags::from_joined(self.tags);
        Arc::new(Key::new(name, self.kind, tags, self.scope))
    }
}

impl Wanted for KeyParts<'_> {
    fn parts(&self) -> KeyParts<'_> {
        *self
    }

    fn is_of(&self, key: &Arc<Key>) -> bool {
        self.hash == key.hash64()
            && self.kind == key.kind()
            && self.scope == key.scope()
            && *self.name == **key.name()
            && self.tags == key.tags().joined()
    }

    fn found(&mut self, _: &Arc<Key>) {}

    fn key(&mut self) -> Arc<Key> {
        self.to_key(self.name.into())
    }

    fn name(&self) -> Arc<str> {
        self.name.into()
    }
}

impl Wanted for NamedParts<'_> {
    fn parts(&self) -> KeyParts<'_> {
        self.parts
    }

    fn is_of(&self, key: &Arc<Key>) -> bool {
        self.parts.is_of(key)
    }

    fn found(&mut self, _: &Arc<Key>) {}

    fn key(&mut self) -> Arc<Key> {
        let name = self.names.get(self.parts.name);
        self.parts.to_key(name)
    }

    fn name(&self) -> Arc<str> {
        self.parts.name()
    }
}
