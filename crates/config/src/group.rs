//! Groups of options: convert the table in [`super::options`] to typed structs and to a list that can be traversed.
//!
//! Invariants:
//! - Every option is declared once; its field, its key, its default, its bounds and its documentation come from that
//!   declaration.
//! - A traversal visits options in the order of the table, each group's own options before its inner groups.

use std::any::Any;

use super::raw::Raw;
use super::setting::Setting;

/// A struct of options and inner groups.
pub(super) trait Group {
    /// Shows every option to `visitor`, with `path` (empty, or ending in a dot) before its key.
    fn walk(&mut self, path: &str, visitor: &mut dyn Visitor);
}

/// Visits the options of a [`Group`] one by one.
pub(super) trait Visitor {
    /// A group with its own options begins. `path` ends in a dot, or is empty for the root.
    fn group(&mut self, path: &str, doc: &'static [&'static str]);

    /// An option: its complete key and its documentation, line by line.
    fn option(&mut self, path: &str, doc: &'static [&'static str], slot: &mut dyn Slot);
}

/// The storage of one option's value, independent of its type.
pub(super) trait Slot {
    /// Reads `raw` as the option's type and stores it. The error follows the key and repeats no secret.
    fn set(&mut self, raw: &Raw) -> Result<(), String>;

    /// The type and its bounds.
    fn kind(&self) -> String;

    /// The current value in TOML; `None` for no value.
    fn toml(&self) -> Option<String>;

    /// A form of the current value that is easier to read.
    fn gloss(&self) -> Option<String>;

    /// Whether the value is secret, so that it may also be in a file of its own or in a credential.
    fn is_secret(&self) -> bool;

    /// Whether a running server takes a new value at a reload. Otherwise a new value needs a restart.
    fn is_reloadable(&self) -> bool;

    /// A copy of the current value, for [`Self::restore`] of the same option.
    fn save(&self) -> Box<dyn Any>;

    /// Stores a copy that [`Self::save`] has made.
    fn restore(&mut self, saved: &dyn Any);
}

/// A [`Slot`] for a field with its rule.
pub(super) struct Field<'a, T: Setting> {
    pub(super) value: &'a mut T,
    pub(super) rule: T::Rule,
    pub(super) is_reloadable: bool,
}

impl<T: Setting + Clone + 'static> Slot for Field<'_, T> {
    fn set(&mut self, raw: &Raw) -> Result<(), String> {
        *self.value = T::read(raw, &self.rule)?;
        Ok(())
    }

    fn kind(&self) -> String {
        T::kind(&self.rule)
    }

    fn toml(&self) -> Option<String> {
        self.value.toml()
    }

    fn gloss(&self) -> Option<String> {
        self.value.gloss(&self.rule)
    }

    fn is_secret(&self) -> bool {
        T::IS_SECRET
    }

    fn is_reloadable(&self) -> bool {
        self.is_reloadable
    }

    fn save(&self) -> Box<dyn Any> {
        Box::new(self.value.clone())
    }

    fn restore(&mut self, saved: &dyn Any) {
        if let Some(saved) = saved.downcast_ref::<T>() {
            *self.value = saved.clone();
        }
    }
}

/// The default of a declaration, which is written in the form of the environment.
pub(super) fn default<T: Setting>(text: &str, rule: &T::Rule) -> T {
    T::read(&Raw::Word(text.into()), rule).unwrap_or_else(|e| panic!("the default {text:?}: {e}"))
}

/// The key of an option, whose field may be a raw identifier.
pub(super) fn key(path: &str, field: &str) -> String {
    format!("{path}{}", field.trim_start_matches("r#"))
}

/// Declares a group: a public struct, its defaults, and its [`Group::walk`].
///
/// `field: Type = default, rule;` declares an option with the documentation above it; the default is written in the
/// form of the environment. `field: Type = default, rule, reload;` declares an option that a running server takes at a
/// reload; the mark belongs to the code that applies the option (`server/src/reload.rs`). After `groups`, `field: Type;`
/// declares an inner group.
macro_rules! group {
    (
        $(#[doc = $about:literal])+
        pub struct $Name:ident {
            $( $(#[doc = $doc:literal])+ $option:ident: $Type:ty = $default:literal, $rule:expr $(, $mark:ident)?; )*
        }
        $( groups { $( $(#[doc = $group_doc:literal])+ $group:ident: $Group:ty; )+ } )?
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq)]
        pub struct $Name {
            $( $(#[doc = $doc])+ pub $option: $Type, )*
            $( $( $(#[doc = $group_doc])+ pub $group: $Group, )+ )?
        }

        impl Default for $Name {
            fn default() -> Self {
                Self {
                    $( $option: $crate::group::default::<$Type>($default, &$rule), )*
                    $( $( $group: <$Group>::default(), )+ )?
                }
            }
        }

        impl $crate::group::Group for $Name {
            fn walk(&mut self, path: &str, visitor: &mut dyn $crate::group::Visitor) {
                visitor.group(path, &[$($about),+]);
                $(
                    let mut field = $crate::group::Field::<$Type> {
                        value: &mut self.$option,
                        rule: $rule,
                        is_reloadable: $crate::group::is_reloadable!($($mark)?),
                    };
                    visitor.option(&$crate::group::key(path, stringify!($option)), &[$($doc),+], &mut field);
                )*
                $( $( self.$group.walk(&format!("{path}{}.", stringify!($group)), visitor); )+ )?
            }
        }
    };
}
pub(super) use group;

/// Whether an option has the mark `reload`.
macro_rules! is_reloadable {
    () => {
        false
    };
    (reload) => {
        true
    };
}
pub(super) use is_reloadable;
