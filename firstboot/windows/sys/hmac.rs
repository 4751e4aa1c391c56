//! HMAC-SHA256 by the system (bcrypt.dll, Windows 7 and later).

use super::{wide, Wide};
use std::ffi::c_void;
use std::io;

/// Bytes of a digest.
pub(crate) const DIGEST_BYTES: usize = 32;

type Provider = *mut c_void;
type Hash = *mut c_void;

#[link(name = "bcrypt")]
extern "system" {
    fn BCryptOpenAlgorithmProvider(
        provider: *mut Provider,
        algorithm: Wide,
        implementation: Wide,
        flags: u32,
    ) -> i32;
    fn BCryptCloseAlgorithmProvider(provider: Provider, flags: u32) -> i32;
    fn BCryptCreateHash(
        provider: Provider,
        hash: *mut Hash,
        object: *mut u8,
        object_bytes: u32,
        key: *const u8,
        key_bytes: u32,
        flags: u32,
    ) -> i32;
    fn BCryptHashData(hash: Hash, data: *const u8, bytes: u32, flags: u32) -> i32;
    fn BCryptFinishHash(hash: Hash, digest: *mut u8, bytes: u32, flags: u32) -> i32;
    fn BCryptDestroyHash(hash: Hash) -> i32;
}

struct OpenProvider(Provider);

impl Drop for OpenProvider {
    fn drop(&mut self) {
        // SAFETY: the provider is open, and nobody else closes it.
        unsafe {
            BCryptCloseAlgorithmProvider(self.0, 0);
        }
    }
}

struct OpenHash(Hash);

impl Drop for OpenHash {
    fn drop(&mut self) {
        // SAFETY: the hash is open, and nobody else closes it; it goes before its provider.
        unsafe {
            BCryptDestroyHash(self.0);
        }
    }
}

/// Result from an NTSTATUS, which is not negative on success.
fn good(function: &str, status: i32) -> io::Result<()> {
    if status >= 0 {
        return Ok(());
    }
    let said = format!("{}: status {:#010x}", function, status);
    Err(io::Error::new(io::ErrorKind::Other, said))
}

/// HMAC-SHA256 of some bytes.
pub(crate) fn sha256(key: &[u8], data: &[u8]) -> io::Result<[u8; DIGEST_BYTES]> {
    const BCRYPT_ALG_HANDLE_HMAC_FLAG: u32 = 8;
    let length = |bytes: &[u8]| {
        let too_long = |_| io::Error::from(io::ErrorKind::InvalidInput);
        u32::try_from(bytes.len()).map_err(too_long)
    };
    let (key_bytes, data_bytes) = (length(key)?, length(data)?);
    let name = wide("SHA256");
    let mut provider = std::ptr::null_mut();
    // SAFETY: the name is zero-ended and lives; a null implementation is the system's own.
    good("BCryptOpenAlgorithmProvider", unsafe {
        BCryptOpenAlgorithmProvider(
            &mut provider,
            name.as_ptr(),
            std::ptr::null(),
            BCRYPT_ALG_HANDLE_HMAC_FLAG,
        )
    })?;
    let provider = OpenProvider(provider);
    let mut hash = std::ptr::null_mut();
    // SAFETY: the provider is open and outlives the hash; without a buffer the function allocates
    // its object; the key has the given length and is only read.
    good("BCryptCreateHash", unsafe {
        BCryptCreateHash(
            provider.0,
            &mut hash,
            std::ptr::null_mut(),
            0,
            key.as_ptr(),
            key_bytes,
            0,
        )
    })?;
    let hash = OpenHash(hash);
    // SAFETY: the hash is open; the data has the given length and is only read.
    good("BCryptHashData", unsafe {
        BCryptHashData(hash.0, data.as_ptr(), data_bytes, 0)
    })?;
    let mut digest = [0; DIGEST_BYTES];
    // SAFETY: the hash is open; a digest of SHA-256 has as many bytes as the buffer.
    good("BCryptFinishHash", unsafe {
        BCryptFinishHash(hash.0, digest.as_mut_ptr(), DIGEST_BYTES as u32, 0)
    })?;
    Ok(digest)
}
