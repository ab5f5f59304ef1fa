//! Compares the list of Centrifugo's options with the options of tidings.

use tidings_centrifugo_options::known::{ABSENT_DEFAULTS, BLOCKS, Counterpart::Option as Here, OPTIONS};

use crate::keys::{is_group, is_option};

#[test]
fn no_option_of_tidings_is_listed_as_missing() {
    for (key, ..) in OPTIONS {
        assert!(!is_option(key), "{key} is an option of tidings");
    }
    for (key, ..) in BLOCKS.iter().filter(|(key, ..)| *key != "broker") {
        assert!(!is_group(key) && !is_option(key), "{key} is a group of tidings");
    }
    for (key, _) in ABSENT_DEFAULTS {
        assert!(is_option(key), "{key} is no option of tidings");
    }
}

#[test]
fn the_counterparts_exist() {
    let options = OPTIONS.iter().map(|(_, _, counterpart)| counterpart);
    for counterpart in options.chain(BLOCKS.iter().map(|(_, _, counterpart)| counterpart)) {
        let Here(words) = counterpart else { continue };
        let name = words.split([',', ' ']).next().unwrap_or_default();
        assert!(is_option(name) || is_group(name), "{name} is no option of tidings");
    }
}
