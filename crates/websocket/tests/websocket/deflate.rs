//! Compressed messages (RFC 7692) against the examples of the RFC, against another inflater (zune-inflate), and against
//! arbitrary compressors and malicious peers.

use miniz_oxide::DataFormat;
use miniz_oxide::deflate::core::{
    CompressionStrategy, CompressorOxide, TDEFLFlush, TDEFLStatus, compress_to_output,
};
use proptest::prelude::*;
use tidings_websocket::deflate::{Deflater, Inflater};
use tidings_websocket::{Event, Header, Kind, Opcode, ProtocolError, Reader, Role, Rules, mask};
use zune_inflate::DeflateDecoder;

const MAX: usize = 10_000;
const RSV1: u8 = 0x40;

/// The messages in a connection's bytes, in pieces of these sizes, up to an error.
fn seen(role: Role, bytes: &[u8], sizes: &[usize]) -> (Vec<(Kind, Vec<u8>)>, Option<ProtocolError>) {
    let rules = Rules { role, max_message: MAX as u64 };
    let (mut reader, mut buffer, mut inflater) = (Reader::default(), Vec::new(), Inflater::default());
    let (mut all, mut sizes, mut rest) = (Vec::new(), sizes.iter().cycle(), bytes);
    while !rest.is_empty() {
        let (mut piece, after) = rest.split_at((*sizes.next().unwrap()).clamp(1, rest.len()));
        rest = after;
        while !piece.is_empty() {
            match reader.read_deflated(piece, &rules, &mut buffer, &mut inflater) {
                Err(error) => return (all, Some(error)),
                Ok((used, event)) => {
                    piece = &piece[used..];
                    if let Event::Message(kind) = event {
                        assert!(reader == Reader::default() && buffer.len() <= MAX);
                        all.push((kind, std::mem::take(&mut buffer)));
                    }
                }
            }
            assert!(buffer.len() <= MAX + MAX / 4 + 64 + 125);
        }
    }
    (all, None)
}

/// A message of a client with a prepared payload, in fragments that end at these places.
fn sent(opcode: Opcode, payload: &[u8], cuts: &[usize]) -> Vec<u8> {
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (payload.len() + 1)).collect();
    ends.sort_unstable();
    ends.push(payload.len());
    let (mut out, mut begin, last) = (Vec::new(), 0, ends.len() - 1);
    for (i, end) in ends.into_iter().enumerate() {
        let start = out.len();
        let opcode = if i == 0 { opcode } else { Opcode::Continuation };
        let (key, length) = ([9, 8, 7, 6], (end - begin) as u64);
        Header { is_final: i == last, opcode, mask: Some(key), length }.write(&mut out);
        if i == 0 {
            out[start] |= RSV1;
        }
        let at = out.len();
        out.extend_from_slice(&payload[begin..end]);
        mask(&mut out[at..], key, 0);
        begin = end;
    }
    out
}

/// The result of decompressing one message.
fn unpacked(payload: &[u8]) -> Result<Vec<u8>, ProtocolError> {
    let (mut all, error) = seen(Role::Server, &sent(Opcode::Binary, payload, &[]), &[7]);
    error.map_or_else(|| Ok(all.pop().expect("a message").1), Err)
}

/// The result of another inflater, which reads one stream.
fn by_another(payload: &[u8]) -> Option<Vec<u8>> {
    let all = [payload, &[0, 0, 0xFF, 0xFF, 1, 0, 0, 0xFF, 0xFF]].concat();
    DeflateDecoder::new(&all).decode_deflate().ok()
}

#[test]
fn the_examples_of_the_rfc_are_decoded() {
    // §7.2.3.1, as a server's frame: whole, and in two.
    let hello = [(Kind::Text, b"Hello".to_vec())];
    let whole = [0xc1, 0x07, 0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let fragments = [0x41, 0x03, 0xf2, 0x48, 0xcd, 0x80, 0x04, 0xc9, 0xc9, 0x07, 0x00];
    assert_eq!(seen(Role::Client, &whole, &[9]).0, hello);
    assert_eq!(seen(Role::Client, &fragments, &[4]).0, hello);
    let mut written = Vec::new();
    let longer = b"Hello Hello Hello Hello";
    Deflater::new(1, 0).frame_with(Opcode::Text, &mut written, |out| out.extend_from_slice(longer));
    assert!(written.len() < longer.len() && written[0] == 0xc1);
    for (payload, expected) in [
        // §7.2.3.3: a stored block.
        (&[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00][..], "Hello"),
        // §7.2.3.4: a last block, and a byte behind it.
        (&[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00], "Hello"),
        // §7.2.3.5: two blocks.
        (&[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00], "Hello"),
        // §7.2.3.6: an empty message.
        (&[0x00], ""),
    ] {
        assert_eq!(unpacked(payload), Ok(expected.as_bytes().to_vec()), "{payload:x?}");
    }
}

#[test]
fn other_forms_that_libraries_send_are_decoded() {
    for (payload, expected) in [
        // A last block, and nothing behind it.
        (&[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00][..], "Hello"),
        // Two streams.
        (
            &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00],
            "HelloHello",
        ),
        // The empty block at the end left where it was, and three of them.
        (&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00, 0x00, 0xff, 0xff, 0x00], "Hello"),
        (&[0x00, 0x00, 0x00, 0xff, 0xff, 0x00, 0x00, 0x00, 0xff, 0xff, 0x00], ""),
        // Not even an empty block.
        (&[], ""),
    ] {
        assert_eq!(unpacked(payload), Ok(expected.as_bytes().to_vec()), "{payload:x?}");
    }
}

#[test]
fn a_message_cannot_refer_to_an_earlier_one() {
    // §7.2.3.2: the second "Hello" of a sender that keeps its window.
    let first = sent(Opcode::Text, &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00], &[]);
    let second = sent(Opcode::Text, &[0xf2, 0x00, 0x11, 0x00, 0x00], &[]);
    let (messages, error) = seen(Role::Server, &[first, second].concat(), &[5]);
    assert_eq!((messages.len(), error), (1, Some(ProtocolError::Deflate)));
    assert_eq!(ProtocolError::Deflate.close_code().0, 1007);
    // Nor a stream on an earlier one of its message.
    let both = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0xf2, 0x00, 0x11, 0x00, 0x00];
    assert_eq!(unpacked(&both), Err(ProtocolError::Deflate));
}

#[test]
fn invalid_compressed_messages_are_refused() {
    for payload in [
        // An unknown kind of block; lengths that do not fit; a reference before the beginning.
        &[0x07][..],
        &[0xff, 0xff],
        &[0x00, 0x05, 0x00, 0xfa, 0xfe, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00],
        &[0xf2, 0x00, 0x11, 0x00, 0x00],
        // Its end is missing.
        &[0xf2, 0x48, 0xcd],
        &[0x00, 0x09, 0x00, 0xf6, 0xff, 0x48],
    ] {
        assert_eq!(unpacked(payload), Err(ProtocolError::Deflate), "{payload:x?}");
    }
    let text = sent(Opcode::Text, &[0x00, 0x01, 0x00, 0xfe, 0xff, 0xff, 0x00], &[]);
    assert_eq!(seen(Role::Server, &text, &[99]).1, Some(ProtocolError::NotUtf8));
}

#[test]
fn the_compression_bit_is_allowed_on_first_frames_only() {
    for bytes in [
        &[0xC9, 0x80][..],
        &[0xC8, 0x80],
        &[0xC0],
        &[0x41, 0x80, 0, 0, 0, 0, 0xC0],
        &[0x01, 0x80, 0, 0, 0, 0, 0xC0],
        &[0xE1],
        &[0x91],
        &[0xC3],
    ] {
        assert_eq!(seen(Role::Server, bytes, &[1]).1, Some(ProtocolError::ReservedBits), "{bytes:x?}");
    }
    let (rules, mut buffer) = (Rules { role: Role::Client, max_message: 10 }, Vec::new());
    let not_agreed = Reader::default().read(&[0xC1], &rules, &mut buffer);
    assert_eq!(not_agreed, Err(ProtocolError::ReservedBits));
    // Begun on a connection with compression, and ended on one without.
    let mut reader = Reader::default();
    let begun = reader.read_deflated(&[0x41, 0x01, 0x00], &rules, &mut buffer, &mut Inflater::default());
    assert_eq!(begun, Ok((3, Event::Partial)));
    assert_eq!(reader.read(&[0x80, 0x00], &rules, &mut buffer), Err(ProtocolError::ReservedBits));
}

#[test]
fn the_limit_applies_to_the_decompressed_message_with_a_quarter_more_for_input() {
    let too_big = Err(ProtocolError::TooBig(MAX as u64));
    assert_eq!(unpacked(&stored(&[7; MAX])), Ok(vec![7; MAX]));
    assert_eq!(unpacked(&stored(&[7; MAX + 1])), too_big);
    assert_eq!(unpacked(&by_compressor(&[7; MAX], 9, CompressionStrategy::Default, &[])), Ok(vec![7; MAX]));
    assert_eq!(unpacked(&by_compressor(&[7; MAX + 1], 9, CompressionStrategy::Default, &[])), too_big);
    let bomb = by_compressor(&vec![7; 1 << 23], 9, CompressionStrategy::Default, &[]);
    assert!(bomb.len() <= MAX);
    assert_eq!(unpacked(&bomb), too_big);
    // By its header alone.
    let longest = MAX as u64 + MAX as u64 / 4 + 64;
    for (length, expected) in [(longest, None), (longest + 1, Some(ProtocolError::TooBig(MAX as u64)))] {
        let mut head = Vec::new();
        Header { is_final: true, opcode: Opcode::Text, mask: Some([0; 4]), length }.write(&mut head);
        head[0] |= RSV1;
        assert_eq!(seen(Role::Server, &head, &[3]).1, expected);
    }
}

/// The message in stored blocks.
fn stored(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for block in message.chunks(999) {
        let length = block.len() as u16;
        out.push(0);
        out.extend(length.to_le_bytes());
        out.extend((!length).to_le_bytes());
        out.extend(block);
    }
    out.push(0);
    out
}

/// The output of a compressor with these settings that flushes after each of these numbers of bytes.
fn by_compressor(message: &[u8], level: u8, strategy: CompressionStrategy, flushes: &[usize]) -> Vec<u8> {
    let mut state = CompressorOxide::with_params(DataFormat::Raw, level, strategy, 15);
    let (mut out, mut rest) = (Vec::new(), message);
    let sizes = flushes.iter().copied().chain([message.len()]);
    for (i, size) in sizes.enumerate() {
        let (piece, after) = rest.split_at(size.min(rest.len()));
        rest = after;
        let flush = if i % 2 == 0 { TDEFLFlush::Sync } else { TDEFLFlush::Full };
        let flush = if i == flushes.len() { TDEFLFlush::Sync } else { flush };
        let (status, used) = compress_to_output(&mut state, piece, flush, |bytes| {
            out.extend_from_slice(bytes);
            true
        });
        assert_eq!((status, used), (TDEFLStatus::Okay, piece.len()));
    }
    out.strip_suffix(&[0, 0, 0xFF, 0xFF]).unwrap_or(&out).to_vec()
}

/// Text with or without much repetition.
fn a_text() -> impl Strategy<Value = String> {
    prop_oneof![
        ".{0,200}",
        ("[a-z\\{\":,]{1,20}", 0..200_usize).prop_map(|(word, times)| word.repeat(times)),
        prop::collection::vec("[a-f]{1,8}", 0..1000).prop_map(|words| words.join(" ")),
        // The same text again after a long distance.
        (prop::collection::vec("[a-f]{30}", 1..20), 90..300_usize)
            .prop_map(|(words, n)| { words.iter().cycle().take(n).map(String::as_str).collect() }),
    ]
}

fn a_strategy() -> impl Strategy<Value = CompressionStrategy> {
    prop::sample::select(vec![
        CompressionStrategy::Default,
        CompressionStrategy::Filtered,
        CompressionStrategy::HuffmanOnly,
        CompressionStrategy::RLE,
        CompressionStrategy::Fixed,
    ])
}

proptest! {
    #[test]
    fn compressed_output_is_decoded_in_any_pieces_and_by_another_inflater(
        texts in prop::collection::vec(a_text(), 1..5),
        level in 1_u8..10,
        min_size in 0_usize..300,
        sizes in prop::collection::vec(1_usize..400, 1..8),
    ) {
        let mut deflater = Deflater::new(level, min_size);
        let (mut bytes, mut frames) = (Vec::new(), Vec::new());
        for text in &texts {
            let start = bytes.len();
            deflater.frame_with(Opcode::Text, &mut bytes, |out| out.extend_from_slice(text.as_bytes()));
            frames.push(bytes[start..].to_vec());
        }
        let expected: Vec<_> = texts.iter().map(|text| (Kind::Text, text.clone().into_bytes())).collect();
        prop_assert_eq!(seen(Role::Client, &bytes, &sizes), (expected, None));
        for (text, frame) in texts.iter().zip(&frames) {
            let is_packed = frame[0] & RSV1 != 0;
            let header = match frame[1] { 126 => 4, 127 => 10, _ => 2 };
            let payload = &frame[header..];
            prop_assert!(!is_packed || (text.len() >= min_size && payload.len() < text.len()));
            let read = if is_packed { by_another(payload) } else { Some(payload.to_vec()) };
            prop_assert_eq!(read.as_deref(), Some(text.as_bytes()));
            prop_assert!(!is_packed || in_a_small_window(payload) == text.as_bytes());
            // A message alone is the same: it contains nothing of the messages before it.
            let mut alone = Vec::new();
            Deflater::new(level, min_size).frame_with(Opcode::Text, &mut alone, |out| {
                out.extend_from_slice(text.as_bytes());
            });
            prop_assert_eq!(&alone, frame);
        }
        let counts = deflater.counts();
        prop_assert_eq!(counts.plain as usize, texts.iter().map(String::len).sum::<usize>());
        prop_assert!(counts.packed <= counts.plain);
    }

    #[test]
    fn output_of_any_compressor_is_decoded_in_any_fragments_and_pieces(
        text in a_text(),
        level in 0_u8..10,
        strategy in a_strategy(),
        flushes in prop::collection::vec(0_usize..300, 0..4),
        cuts in prop::collection::vec(any::<usize>(), 0..4),
        sizes in prop::collection::vec(1_usize..400, 1..8),
    ) {
        let payload = by_compressor(text.as_bytes(), level, strategy, &flushes);
        prop_assume!(payload.len() <= MAX + MAX / 4 + 64);
        let bytes = sent(Opcode::Text, &payload, &cuts);
        prop_assert_eq!(seen(Role::Server, &bytes, &sizes), (vec![(Kind::Text, text.into_bytes())], None));
    }

    #[test]
    fn arbitrary_input_is_refused_or_decoded_as_by_another_inflater(
        text in a_text(),
        garbage in prop::collection::vec(any::<u8>(), 0..60),
        broken in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        cuts in prop::collection::vec(any::<usize>(), 0..3),
        size in 1_usize..50,
    ) {
        let mut mutated = by_compressor(text.as_bytes(), 6, CompressionStrategy::Default, &[]);
        for (at, byte) in broken.iter().filter(|_| !mutated.is_empty()).collect::<Vec<_>>() {
            let at = at.index(mutated.len());
            mutated[at] = *byte;
        }
        for payload in [garbage, mutated] {
            let whole = sent(Opcode::Binary, &payload, &[]);
            let read = seen(Role::Server, &whole, &[whole.len()]);
            prop_assert_eq!(&read, &seen(Role::Server, &sent(Opcode::Binary, &payload, &cuts), &[size]));
            if let ([(_, message)], Some(another)) = (&read.0[..], by_another(&payload))
                && !has_several_streams(&payload)
            {
                prop_assert_eq!(message, &another);
            }
        }
    }
}

/// The result of a decompressor with a window of 4 KiB: a reference further back would yield other bytes.
fn in_a_small_window(payload: &[u8]) -> Vec<u8> {
    use miniz_oxide::inflate::TINFLStatus;
    use miniz_oxide::inflate::core::{DecompressorOxide, decompress};
    let all = [payload, &[0, 0, 0xFF, 0xFF, 1, 0, 0, 0xFF, 0xFF]].concat();
    let (mut state, mut window, mut out) = (DecompressorOxide::new(), [0; 4096], Vec::new());
    let mut input = &all[..];
    loop {
        let at = out.len() % window.len();
        let (status, used, written) = decompress(&mut state, input, &mut window, at, 0);
        input = &input[used..];
        out.extend_from_slice(&window[at..at + written]);
        match status {
            TINFLStatus::Done => return out,
            TINFLStatus::HasMoreOutput => {}
            other => panic!("{other:?}"),
        }
    }
}

/// Whether the other inflater, which stops behind the first stream, would return less.
fn has_several_streams(payload: &[u8]) -> bool {
    DeflateDecoder::new(payload).decode_deflate().is_ok()
}
