//! The values of options as text, for display.

use super::group::{Group, Slot, Visitor};
use super::options::ChannelOptions;

impl ChannelOptions {
    /// The options with their values in the form of a TOML file, in the order of the table.
    pub fn values(&self) -> Vec<(String, String)> {
        struct Values(Vec<(String, String)>);
        impl Visitor for Values {
            fn group(&mut self, _: &str, _: &'static [&'static str]) {}

            fn option(&mut self, path: &str, _: &'static [&'static str], slot: &mut dyn Slot) {
                if !slot.is_secret() {
                    self.0.push((path.to_owned(), slot.toml().unwrap_or_default()));
                }
            }
        }
        let mut values = Values(Vec::new());
        self.clone().walk("", &mut values);
        values.0
    }
}
