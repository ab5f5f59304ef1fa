//! The locks of [`crate::interest`], named here so that the model checker's can stand in for them (`tests/model.rs`).

pub(crate) use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
