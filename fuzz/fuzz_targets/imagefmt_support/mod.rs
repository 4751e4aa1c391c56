//! Functions shared by the fuzz targets of the image format.

use imagefmt::Image;

const SYNC: &[u8] = b"\xd1DCR\r\n\x1a\xd8";

/// A copy with prologue hash, header CRCs and stored hashes corrected to fit its bytes.
pub fn resealed(data: &[u8]) -> Vec<u8> {
    let mut bytes = data.to_vec();
    if let Some((covered, rest)) = bytes.split_at_mut_checked(4064) {
        if let Some(hash) = rest.get_mut(..32) {
            hash.copy_from_slice(blake3::hash(covered).as_bytes());
        }
    }
    let mut at = 4096;
    while let Some((header, body)) = bytes
        .get_mut(at..)
        .and_then(|rest| rest.split_at_mut_checked(128))
    {
        if header.starts_with(SYNC) {
            let mut len = [0; 8];
            len.copy_from_slice(&header[24..32]);
            let stored = usize::try_from(u64::from_le_bytes(len))
                .ok()
                .and_then(|len| body.get(..len));
            if let Some(stored) = stored {
                header[96..112].copy_from_slice(&blake3::hash(stored).as_bytes()[..16]);
            }
            let crc = crc32fast::hash(&header[..124]);
            header[124..].copy_from_slice(&crc.to_le_bytes());
        }
        at += 64;
    }
    bytes
}

/// Reads every chunk; returns the number of verified chunks.
pub fn read_all(image: &Image<&[u8]>) -> usize {
    let Ok(mut decoder) = image.decoder() else {
        return 0;
    };
    let (mut body, mut out) = (Vec::new(), Vec::new());
    (0..image.manifest().entries.len())
        .filter(|&index| {
            image
                .read_chunk(index, &mut decoder, &mut body, &mut out)
                .is_ok()
        })
        .count()
}
