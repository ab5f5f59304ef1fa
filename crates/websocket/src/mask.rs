//! Masking (RFC 6455 §5.3).

/// Masks or unmasks `bytes`, which begin at `offset` in their frame's payload.
pub fn mask(bytes: &mut [u8], mut key: [u8; 4], offset: u64) {
    key.rotate_left((offset % 4) as usize);
    // The compiler vectorizes this loop; its length is that of two registers.
    let mut wide = [0; 32];
    for part in wide.chunks_exact_mut(4) {
        part.copy_from_slice(&key);
    }
    let mut blocks = bytes.chunks_exact_mut(wide.len());
    for block in &mut blocks {
        for (byte, key) in block.iter_mut().zip(&wide) {
            *byte ^= key;
        }
    }
    for (byte, key) in blocks.into_remainder().iter_mut().zip(&wide) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_example_of_the_rfc_is_unmasked() {
        // §5.7: "a single-frame masked text message".
        let mut bytes = [0x7f, 0x9f, 0x4d, 0x51, 0x58];
        mask(&mut bytes, [0x37, 0xfa, 0x21, 0x3d], 0);
        assert_eq!(&bytes, b"Hello");
    }

    proptest! {
        #[test]
        fn a_payload_masked_in_pieces_is_masked_as_a_whole(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            key: [u8; 4],
            at in any::<prop::sample::Index>(),
        ) {
            let expected: Vec<u8> = bytes.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
            let mut pieces = bytes.clone();
            let at = at.index(bytes.len() + 1);
            mask(&mut pieces[..at], key, 0);
            mask(&mut pieces[at..], key, at as u64);
            prop_assert_eq!(pieces, expected);
        }
    }
}
