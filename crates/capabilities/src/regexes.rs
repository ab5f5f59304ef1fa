//! Compiled regular expressions, shared by the connections that have them: a program takes up to [`MAX_REGEX_SIZE`] bytes, and the
//! tokens of an application have the same few expressions.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tidings_pattern::Pattern;

use crate::MAX_REGEX_SIZE;

/// Most expressions that are kept without a connection that has them.
const MAX_KEPT: usize = 256;

static KEPT: Mutex<Option<HashMap<String, Arc<Pattern>>>> = Mutex::new(None);

/// The program of an expression; `None` if it is invalid or too large.
pub(crate) fn get(text: &str) -> Option<Arc<Pattern>> {
    let kept = || KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let known = kept().get_or_insert_default().get(text).map(Arc::clone);
    if known.is_some() {
        return known;
    }
    // Compiled without the lock, because that may take long.
    let pattern = Arc::new(Pattern::with_max_size(text, MAX_REGEX_SIZE).ok()?);
    let mut kept = kept();
    let kept = kept.get_or_insert_default();
    if kept.len() >= MAX_KEPT {
        kept.retain(|_, pattern| Arc::strong_count(pattern) > 1);
    }
    // Where all of them are in use, the new one belongs to its connection alone.
    if kept.len() < MAX_KEPT {
        kept.insert(text.to_owned(), Arc::clone(&pattern));
    }
    Some(pattern)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_expressions_share_a_program_and_unused_ones_make_room() {
        let first = get("^shared-[0-9]$").unwrap();
        assert!(Arc::ptr_eq(&first, &get("^shared-[0-9]$").unwrap()));
        for number in 0..2 * MAX_KEPT {
            get(&format!("^other-{number}$")).unwrap();
        }
        assert!(Arc::ptr_eq(&first, &get("^shared-[0-9]$").unwrap()), "one in use is kept");
        let kept = KEPT.lock().unwrap().as_ref().map_or(0, HashMap::len);
        assert!(kept <= MAX_KEPT, "{kept}");
    }
}
