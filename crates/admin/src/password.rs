//! The password of the page: its hash in `admin.password_hash`, and the check of a password.
//!
//! The hash is a PHC string of Argon2 (RFC 9106), so that a stolen configuration does not contain the password.

use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use ring::rand::{SecureRandom as _, SystemRandom};

/// Longest password in bytes.
pub const MAX_PASSWORD: usize = 1024;
/// Bytes of a salt (RFC 9106 §3.1 recommends 16).
const SALT: usize = 16;

/// The parameters of new hashes: the second recommendation of OWASP's cheat sheet (19 MiB, 2 passes).
fn hasher() -> Argon2<'static> {
    Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::DEFAULT)
}

/// The PHC string of a password, with a new salt.
///
/// # Errors
/// If the password is empty or longer than [`MAX_PASSWORD`].
pub fn hash_password(password: &str) -> Result<String, String> {
    if password.is_empty() || password.len() > MAX_PASSWORD {
        return Err(format!("a password has 1 to {MAX_PASSWORD} bytes, this one has {}", password.len()));
    }
    let mut salt = [0; SALT];
    SystemRandom::new().fill(&mut salt).expect("the operating system's random numbers");
    let salt = SaltString::encode_b64(&salt).expect("16 bytes are a valid salt");
    let hash = hasher().hash_password(password.as_bytes(), &salt).map_err(|error| error.to_string())?;
    Ok(hash.to_string())
}

/// Whether the password has this hash. Takes tens of milliseconds of a core, and the memory that the hash names.
pub(crate) fn verify(password: &str, hash: &str) -> bool {
    PasswordHash::new(hash).is_ok_and(|hash| hasher().verify_password(password.as_bytes(), &hash).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_password_itself_has_its_hash_and_each_hash_has_its_own_salt() {
        let hash = hash_password("correct horse").expect("a hash");
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(verify("correct horse", &hash));
        assert!(
            !verify("correct horsf", &hash) && !verify("", &hash) && !verify("correct horse", "plain text")
        );
        assert_ne!(hash_password("correct horse").expect("a hash"), hash);
        assert!(hash_password("").is_err() && hash_password(&"x".repeat(MAX_PASSWORD + 1)).is_err());
    }
}
