//! Deltas between payloads that follow each other on a channel (VCDIFF, RFC 3284).
//!
//! A delta has one window and neither checksum nor secondary compression: what the protocol's decoders read.

use oxidelta::compress::encoder::{CompressOptions, encode_all};

use crate::limits::DELTA_PAYLOAD_MAX;

/// What turns `base` into `payload`; None unless it is smaller than the payload, or if one of them is too large to be
/// compared.
pub fn delta(base: &[u8], payload: &[u8]) -> Option<Vec<u8>> {
    if base.is_empty() || base.len().max(payload.len()) > DELTA_PAYLOAD_MAX {
        return None;
    }
    let options = CompressOptions { window_size: DELTA_PAYLOAD_MAX, checksum: false, ..CompressOptions::default() };
    let mut bytes = Vec::with_capacity(64);
    encode_all(&mut bytes, base, payload, options).ok()?;
    (bytes.len() < payload.len()).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use oxidelta::compress::decoder::decode_all;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_small_change_of_a_document_is_a_small_delta() {
        let base: Vec<u8> = (0..2_000u32).map(|n| (n * n % 251) as u8).collect();
        let mut payload = base.clone();
        payload[1_000] ^= 1;
        let bytes = delta(&base, &payload).unwrap();
        assert!(bytes.len() < 64, "{}", bytes.len());
        assert_eq!(&bytes[..3], b"\xd6\xc3\xc4");
        assert_eq!(decode_all(&base, &bytes).unwrap(), payload);
    }

    #[test]
    fn what_is_not_smaller_is_none() {
        assert_eq!(delta(b"abcdefgh", b"12345678"), None);
        assert_eq!(delta(b"", &[1; 100]), None);
        assert_eq!(delta(b"abc", b""), None);
    }

    #[test]
    fn what_is_too_large_is_none() {
        let most = vec![7; DELTA_PAYLOAD_MAX];
        assert!(delta(&most, &most).is_some());
        assert_eq!(delta(&most, &vec![7; DELTA_PAYLOAD_MAX + 1]), None);
        assert_eq!(delta(&vec![7; DELTA_PAYLOAD_MAX + 1], &most), None);
    }

    proptest! {
        #[test]
        fn a_delta_gives_the_payload_back(
            base in proptest::collection::vec(0u8..8, 0..600),
            cut in 0usize..600,
            middle in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let cut = cut.min(base.len());
            let payload = [&base[..cut], &middle, &base[cut..]].concat();
            if let Some(bytes) = delta(&base, &payload) {
                prop_assert!(bytes.len() < payload.len());
                prop_assert_eq!(decode_all(&base, &bytes).unwrap(), payload);
            }
        }
    }
}
