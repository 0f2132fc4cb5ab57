//! The size of an image's encryption header.

use super::encryption::{Cipher, EncryptionFormat};

/// Returns the size of the header that librbd will write, in bytes. It is rounded up to whole
/// periods, because the data begins at the first object of a set.
pub(super) fn header_len(format: EncryptionFormat, cipher: Cipher, period: u64) -> u64 {
    let len = match (format, cipher) {
        (EncryptionFormat::Luks1, Cipher::Aes128) => LUKS1_AES128,
        (EncryptionFormat::Luks1, Cipher::Aes256) => LUKS1_AES256,
        (EncryptionFormat::Luks2, _) => LUKS2,
    };
    len.next_multiple_of(period.max(1))
}

/// LUKS1 has 4 KiB and 8 slots. A slot has 4000 times the size of the key, which XTS doubles,
/// rounded up to 4 KiB.
const LUKS1_AES128: u64 = luks1(32);
const LUKS1_AES256: u64 = luks1(64);
const LUKS2: u64 = 16 << 20;

const fn luks1(key: u64) -> u64 {
    4096 + 8 * (4000 * key).next_multiple_of(4096)
}

/// Returns the size of a header of LUKS1 or LUKS2 in bytes, from its beginning. Returns `None` if
/// these bytes are no such header.
pub(super) fn header_len_in(bytes: &[u8]) -> Option<u64> {
    const SECTOR: u64 = 512;
    let magic = bytes.get(..6)?;
    // librbd writes the second one for clones.
    if magic != b"LUKS\xba\xbe" && magic != b"RBDL\xba\xbe" {
        return None;
    }
    match bytes.get(6..8)? {
        [0, 1] => Some(u64::from(u32::from_be_bytes(*bytes.get(104..)?.first_chunk()?)) * SECTOR),
        [0, 2] => offset_of_data(&String::from_utf8_lossy(bytes.get(4096..)?)),
        _ => None,
    }
}

/// Returns the offset of the first segment in the JSON text of LUKS2, which has it as a string of
/// digits.
fn offset_of_data(json: &str) -> Option<u64> {
    let (_, segments) = json.split_once("\"segments\"")?;
    let (_, offset) = segments.split_once("\"offset\"")?;
    let digits = offset.trim_start_matches([' ', ':', '"']);
    digits.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_is_read_from_the_header() {
        let mut luks1 = b"LUKS\xba\xbe\x00\x01".to_vec();
        luks1.resize(592, 0);
        luks1[104..108].copy_from_slice(&8192_u32.to_be_bytes());
        assert_eq!(header_len_in(&luks1), Some(4 << 20));
        let mut luks2 = b"RBDL\xba\xbe\x00\x02".to_vec();
        luks2.resize(4096, 0);
        luks2.extend_from_slice(
            br#"{"keyslots":{"0":{"area":{"offset":"32768"}}},"segments":{"0":{"type":"crypt","offset":"16777216"}}}"#,
        );
        luks2.resize(32 << 10, 0);
        assert_eq!(header_len_in(&luks2), Some(16 << 20));
    }

    #[test]
    fn other_bytes_are_no_header() {
        for bytes in [&b""[..], b"LUKS", b"LUKS\xba\xbe\x00\x01", b"LUKS\xba\xbe\x00\x02", &[0; 8192]] {
            assert_eq!(header_len_in(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn a_header_ends_with_a_set_of_objects() {
        use EncryptionFormat::{Luks1, Luks2};
        assert_eq!(header_len(Luks1, Cipher::Aes256, 4 << 20), 4 << 20);
        assert_eq!(header_len(Luks2, Cipher::Aes256, 4 << 20), 16 << 20);
        assert_eq!(header_len(Luks2, Cipher::Aes128, 32 << 20), 32 << 20);
        assert_eq!(header_len(Luks1, Cipher::Aes256, 4096), 2_068_480);
        assert_eq!(header_len(Luks1, Cipher::Aes128, 4096), 1_052_672);
    }
}
