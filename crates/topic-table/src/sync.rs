//! The locks of the table. `tests/model.rs` replaces this module with the locks of a model checker.

pub(crate) use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
