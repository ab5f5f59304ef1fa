//! Random bytes from the operating system, separate ones for each secret and each name that must be unpredictable.

use ring::rand::{SecureRandom as _, SystemRandom};

/// `N` random bytes.
pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).expect("the operating system's random numbers");
    bytes
}
