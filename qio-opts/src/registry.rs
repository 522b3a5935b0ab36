//! Objects by id, as `--object` makes them and `--tls-creds` names them.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};

/// Something that a user creates by `--object TYPE,id=ID,...` and refers to by its id.
pub trait Object: Any + Send + Sync {
    /// What a user calls a thing of this Rust type, for errors: `TLS credentials`, `secret`.
    const KIND: &'static str;

    /// The type as written in the option: `tls-creds-x509`. One Rust type may serve several.
    fn type_name(&self) -> &'static str;
}

/// What went wrong with an object's id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// The id cannot be one.
    #[error("'{id}' cannot be an id: use a letter first, then letters, digits, '-', '.' or '_'")]
    InvalidId {
        /// The id as given.
        id: String,
    },
    /// There is an object of that id.
    #[error(
        "there is already an object with id '{id}' (a {type_name}): choose another id, or delete it first"
    )]
    DuplicateId {
        /// The id.
        id: String,
        /// The type of the object that has it.
        type_name: &'static str,
    },
    /// No object has that id.
    #[error("no object with id '{id}' ({})", known_ids(known))]
    NotFound {
        /// The id asked for.
        id: String,
        /// All ids there are.
        known: Vec<String>,
    },
    /// The object is of another kind.
    #[error("object '{id}' is of kind '{found}' ({type_name}), expected '{expected}'")]
    WrongKind {
        /// The id asked for.
        id: String,
        /// The object's [`Object::KIND`].
        found: &'static str,
        /// The object's type as written in its option.
        type_name: &'static str,
        /// The [`Object::KIND`] that was wanted.
        expected: &'static str,
    },
}

fn known_ids(known: &[String]) -> String {
    if known.is_empty() {
        "there are none yet: make one with --object".to_owned()
    } else {
        format!("known: {}", known.join(", "))
    }
}

/// An object's id and type, as [`ObjectRegistry::list`] gives them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// The id.
    pub id: String,
    /// The type as written in the option.
    pub type_name: &'static str,
}

struct Entry {
    object: Arc<dyn Any + Send + Sync>,
    kind: &'static str,
    type_name: &'static str,
}

/// All objects of a process, shared between its services and threads.
///
/// Clones are handles to the same set. Look an object up each time it is used, rather than once: then an
/// object that was deleted and made anew is found (QEMU binds as late). An `Arc` from an earlier look-up
/// stays valid after [`delete`](ObjectRegistry::delete).
///
/// ```
/// use qio_opts::{Object, ObjectRegistry};
///
/// struct Secret(String);
/// impl Object for Secret {
///     const KIND: &'static str = "secret";
///     fn type_name(&self) -> &'static str { "secret" }
/// }
///
/// let objects = ObjectRegistry::new();
/// objects.add("sec0", Secret("xyzzy".into()))?;
/// assert_eq!(objects.get::<Secret>("sec0")?.0, "xyzzy");
/// assert_eq!(objects.get::<Secret>("sec1").err().unwrap().to_string(), "no object with id 'sec1' (known: sec0)");
/// # Ok::<(), qio_opts::RegistryError>(())
/// ```
#[derive(Clone, Default)]
pub struct ObjectRegistry {
    entries: Arc<RwLock<BTreeMap<String, Entry>>>,
}

impl ObjectRegistry {
    /// An empty registry.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an object and returns it.
    ///
    /// # Errors
    /// [`RegistryError::InvalidId`] or [`RegistryError::DuplicateId`]; the object is dropped then.
    pub fn add<T: Object>(&self, id: &str, object: T) -> Result<Arc<T>, RegistryError> {
        check_id(id)?;
        let type_name = object.type_name();
        let object = Arc::new(object);
        let entry = Entry {
            object: Arc::clone(&object) as _,
            kind: T::KIND,
            type_name,
        };
        let mut entries = self.write();
        if let Some(present) = entries.get(id) {
            return Err(RegistryError::DuplicateId {
                id: id.to_owned(),
                type_name: present.type_name,
            });
        }
        entries.insert(id.to_owned(), entry);
        Ok(object)
    }

    /// Finds an object of the given type.
    ///
    /// # Errors
    /// [`RegistryError::NotFound`] or [`RegistryError::WrongKind`].
    pub fn get<T: Object>(&self, id: &str) -> Result<Arc<T>, RegistryError> {
        let entries = self.read();
        let entry = entries.get(id).ok_or_else(|| not_found(&entries, id))?;
        Arc::clone(&entry.object)
            .downcast()
            .map_err(|_| RegistryError::WrongKind {
                id: id.to_owned(),
                found: entry.kind,
                type_name: entry.type_name,
                expected: T::KIND,
            })
    }

    /// Forgets an object. Whoever looked it up before keeps it.
    ///
    /// # Errors
    /// [`RegistryError::NotFound`].
    pub fn delete(&self, id: &str) -> Result<(), RegistryError> {
        let mut entries = self.write();
        let removed = entries.remove(id);
        let result = if removed.is_some() {
            Ok(())
        } else {
            Err(not_found(&entries, id))
        };
        // The object's own drop code may use the registry, so it runs without the lock.
        drop(entries);
        drop(removed);
        result
    }

    /// All objects, ordered by id.
    #[must_use]
    pub fn list(&self) -> Vec<ObjectInfo> {
        let info = |(id, entry): (&String, &Entry)| ObjectInfo {
            id: id.clone(),
            type_name: entry.type_name,
        };
        self.read().iter().map(info).collect()
    }

    /// A handle that does not keep the objects alive.
    #[must_use]
    pub fn downgrade(&self) -> WeakRegistry {
        WeakRegistry {
            entries: Arc::downgrade(&self.entries),
        }
    }

    // A panic elsewhere cannot leave the map half-changed, so a poisoned lock is as good as any.
    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<String, Entry>> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<String, Entry>> {
        self.entries.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for ObjectRegistry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.list()).finish()
    }
}

/// A handle that does not keep the objects alive, for objects that look up others by id when they are used: one that
/// held an [`ObjectRegistry`] would keep alive the very set that keeps it alive.
#[derive(Clone, Default)]
pub struct WeakRegistry {
    entries: Weak<RwLock<BTreeMap<String, Entry>>>,
}

impl WeakRegistry {
    /// The set of objects, unless every [`ObjectRegistry`] of it is gone.
    #[must_use]
    pub fn upgrade(&self) -> Option<ObjectRegistry> {
        self.entries.upgrade().map(|entries| ObjectRegistry { entries })
    }
}

impl std::fmt::Debug for WeakRegistry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WeakRegistry")
    }
}

fn not_found(entries: &BTreeMap<String, Entry>, id: &str) -> RegistryError {
    RegistryError::NotFound {
        id: id.to_owned(),
        known: entries.keys().cloned().collect(),
    }
}

/// Checks an id by QEMU's rule: a letter first, then letters, digits, `-`, `.` or `_`.
///
/// # Errors
/// [`RegistryError::InvalidId`].
pub fn check_id(id: &str) -> Result<(), RegistryError> {
    let mut chars = id.chars();
    let valid = chars.next().is_some_and(|first| first.is_ascii_alphabetic())
        && chars.all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'));
    if valid {
        Ok(())
    } else {
        Err(RegistryError::InvalidId { id: id.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Secret(u32);

    impl Object for Secret {
        const KIND: &'static str = "secret";
        fn type_name(&self) -> &'static str {
            "secret"
        }
    }

    #[derive(Debug)]
    struct Creds;

    impl Object for Creds {
        const KIND: &'static str = "TLS credentials";
        fn type_name(&self) -> &'static str {
            "tls-creds-x509"
        }
    }

    #[test]
    fn the_three_ways_a_look_up_ends() {
        let objects = ObjectRegistry::new();
        let none = objects.get::<Creds>("tls0").unwrap_err().to_string();
        assert!(
            none.contains("no object with id 'tls0'") && none.contains("--object"),
            "{none}"
        );

        objects.add("sec0", Secret(7)).unwrap();
        objects.add("tls0", Creds).unwrap();
        assert_eq!(objects.get::<Secret>("sec0").unwrap().0, 7);
        assert_eq!(
            objects.get::<Creds>("sec0").unwrap_err().to_string(),
            "object 'sec0' is of kind 'secret' (secret), expected 'TLS credentials'"
        );
        assert_eq!(
            objects.get::<Creds>("x").unwrap_err().to_string(),
            "no object with id 'x' (known: sec0, tls0)"
        );
    }

    #[test]
    fn an_id_is_given_once_until_it_is_deleted() {
        let objects = ObjectRegistry::new();
        let first = objects.add("a", Secret(1)).unwrap();
        let error = objects.add("a", Creds).unwrap_err();
        assert_eq!(
            error,
            RegistryError::DuplicateId {
                id: "a".into(),
                type_name: "secret"
            }
        );
        objects.delete("a").unwrap();
        assert!(matches!(objects.delete("a"), Err(RegistryError::NotFound { .. })));
        objects.add("a", Secret(2)).unwrap();
        assert_eq!(
            (first.0, objects.get::<Secret>("a").unwrap().0),
            (1, 2),
            "late binding, early handle"
        );
    }

    #[test]
    fn clones_share_and_threads_may_race() {
        let objects = ObjectRegistry::new();
        let added: usize = std::thread::scope(|scope| {
            let race = |n: u32| {
                let objects = objects.clone();
                scope.spawn(move || usize::from(objects.add("one", Secret(n)).is_ok()))
            };
            let threads: Vec<_> = (0..8).map(race).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(added, 1);
        assert_eq!(
            objects.list(),
            [ObjectInfo {
                id: "one".into(),
                type_name: "secret"
            }]
        );
    }

    #[test]
    fn dropping_an_object_may_use_the_registry() {
        struct Nosy(ObjectRegistry);
        impl Object for Nosy {
            const KIND: &'static str = "nosy";
            fn type_name(&self) -> &'static str {
                "nosy"
            }
        }
        impl Drop for Nosy {
            fn drop(&mut self) {
                let _ = self.0.delete("nosy");
            }
        }
        let objects = ObjectRegistry::new();
        objects.add("nosy", Nosy(objects.clone())).unwrap();
        objects.delete("nosy").unwrap();
        assert!(objects.list().is_empty());
    }

    #[test]
    fn a_weak_handle_lets_the_objects_go() {
        let objects = ObjectRegistry::new();
        let weak = objects.downgrade();
        let secret = objects.add("a", Secret(1)).unwrap();
        assert_eq!(weak.upgrade().unwrap().get::<Secret>("a").unwrap().0, 1);
        drop(objects);
        assert!(weak.upgrade().is_none() && WeakRegistry::default().upgrade().is_none());
        assert_eq!(
            Arc::strong_count(&secret),
            1,
            "the registry gave its own handle up"
        );
    }

    #[test]
    fn ids_follow_qemus_rule() {
        for id in ["a", "tls0", "A-b.c_9"] {
            assert_eq!(check_id(id), Ok(()));
        }
        for id in ["", "0a", "-a", "a b", "a,b", "ä", "a/b"] {
            assert!(check_id(id).is_err(), "{id}");
        }
    }
}
