//! A command's arguments, on the stack for frequent commands.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;

/// Number of arguments that need no heap memory; `PUBLISH channel body` has three.
const INLINE: usize = 4;

/// The words of one command, the name first; never empty. Reads as a slice.
///
/// They are borrowed from the buffer that was decoded, except the quoted words of an inline command.
#[derive(Clone, Default)]
pub struct Args<'a> {
    few: [Cow<'a, [u8]>; INLINE],
    /// Number of arguments in `few`; all arguments are in `many` once there are more.
    count: usize,
    many: Vec<Cow<'a, [u8]>>,
}

impl<'a> Args<'a> {
    pub(super) fn push(&mut self, arg: Cow<'a, [u8]>) {
        if self.many.is_empty() {
            if let Some(free) = self.few.get_mut(self.count) {
                *free = arg;
                self.count += 1;
                return;
            }
            self.many.reserve(INLINE * 2);
            self.many.extend(self.few.iter_mut().map(std::mem::take));
        }
        self.many.push(arg);
    }
}

impl<'a> Deref for Args<'a> {
    type Target = [Cow<'a, [u8]>];

    fn deref(&self) -> &Self::Target {
        if self.many.is_empty() { &self.few[..self.count] } else { &self.many }
    }
}

impl fmt::Debug for Args<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|arg| arg.escape_ascii().to_string())).finish()
    }
}

impl PartialEq for Args<'_> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Args<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_keep_their_order_on_the_stack_and_beyond() {
        let words: Vec<Vec<u8>> = (0..20_u8).map(|n| vec![n]).collect();
        for count in 0..words.len() {
            let mut args = Args::default();
            for word in &words[..count] {
                args.push(Cow::Borrowed(word));
            }
            assert!(args.iter().map(|arg| &arg[..]).eq(words[..count].iter().map(|word| &word[..])));
        }
    }
}
