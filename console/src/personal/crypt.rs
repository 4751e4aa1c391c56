//! Password hashes for Linux.
//!
//! Owns the choice of a hash that a system understands: yescrypt if its login.defs says so (Debian
//! 11, Fedora 35, Ubuntu 22.04 and later), otherwise SHA-512. The salt of SHA-512 has 12 bytes,
//! which are 16 characters: libxcrypt truncates longer ones, and no password would then match the
//! hash.

use sha_crypt::{PasswordHasher as _, ShaCrypt};
use yescrypt::Yescrypt;

/// Returns a crypt hash of `password` for a system whose `ENCRYPT_METHOD` is `method`.
///
/// # Errors
/// A text if the system gives no random numbers, or the password cannot be hashed.
pub(super) fn crypt(password: &str, method: Option<&str>) -> Result<String, String> {
    let failed = |error: &dyn std::fmt::Display| format!("hashing a password: {error}");
    if method == Some("yescrypt") {
        let mut salt = [0; 16];
        getrandom::fill(&mut salt).map_err(|error| failed(&error))?;
        let hash = Yescrypt::default()
            .hash_password_with_salt(password.as_bytes(), &salt)
            .map_err(|error| failed(&error))?;
        return Ok(hash.to_string());
    }
    let mut salt = [0; 12];
    getrandom::fill(&mut salt).map_err(|error| failed(&error))?;
    let hash = ShaCrypt::SHA512
        .hash_password_with_salt(password.as_bytes(), &salt)
        .map_err(|error| failed(&error))?;
    Ok(hash.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// Checks a hash with the C library of this machine, through perl, which every Debian has.
    fn accepted(password: &str, hash: &str) -> bool {
        let script = "exit(crypt($ARGV[0], $ARGV[1]) eq $ARGV[1] ? 0 : 1)";
        Command::new("perl")
            .args(["-e", script, password, hash])
            .status()
            .unwrap()
            .success()
    }

    #[test]
    fn the_c_library_takes_every_hash() {
        for password in [
            "hunter2",
            "Pässwörd mit Leerzeichen",
            "x",
            &"long".repeat(30),
        ] {
            for (method, prefix) in [
                (Some("yescrypt"), "$y$"),
                (Some("sha512"), "$6$"),
                (None, "$6$"),
            ] {
                let hash = crypt(password, method).unwrap();
                assert!(hash.starts_with(prefix), "{hash}");
                assert!(accepted(password, &hash), "{hash}");
                assert!(!accepted("another", &hash), "{hash}");
                assert_ne!(crypt(password, method).unwrap(), hash, "a salt of its own");
            }
        }
    }
}
