//! Random bytes from the operating system. Each secret and each name that must not be guessed takes its own.

use ring::rand::{SecureRandom as _, SystemRandom};

/// `N` random bytes.
pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).expect("the operating system's random numbers");
    bytes
}
