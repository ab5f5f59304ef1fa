//! Compressed files: gzip and zstd, detected by their first bytes and decompressed incrementally.
//!
//! Invariants:
//! - Memory is bounded: one piece of input, its output (below [`PIECE_SIZE`] × 1,032, the largest ratio of deflate),
//!   and for zstd the window of the frame, at most [`WINDOW_BYTES`].
//! - The output does not depend on how the input is split. Several members or frames form one text; zeros after a gzip
//!   member are padding.

use std::io::Write;

use flate2::write::GzDecoder;
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use crate::Error;

/// The compression of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Not compressed.
    #[default]
    None,
    /// gzip (RFC 1952).
    Gzip,
    /// Zstandard (RFC 8878).
    Zstd,
}

/// The most input that is decompressed at once.
const PIECE_SIZE: usize = 2 << 10;

/// The largest window of a zstd frame: that of level 20.
const WINDOW_BYTES: u64 = 32 << 20;

/// RFC 1952 §2.3.1: the magic number, and deflate, the only method.
const GZIP: &[u8] = &[0x1F, 0x8B, 8];

/// RFC 8878 §3.1.1.
const ZSTD: &[u8] = &[0x28, 0xB5, 0x2F, 0xFD];

/// RFC 8878 §3.1.2, after a first byte from 0x50 to 0x5F: a skippable frame, which may precede a data frame.
const SKIPPABLE: &[u8] = &[0x2A, 0x4D, 0x18];

impl Compression {
    /// The compression of a file that starts with `head`; `None` while more bytes are needed.
    pub(crate) fn detect(head: &[u8], whole: bool) -> Option<Self> {
        let may_be = |magic: &[u8]| head.len() < magic.len() && magic.starts_with(head) && !whole;
        match head {
            _ if head.starts_with(GZIP) => Some(Self::Gzip),
            _ if head.starts_with(ZSTD) => Some(Self::Zstd),
            [0x50..=0x5F, skippable @ ..] if skippable.starts_with(SKIPPABLE) => Some(Self::Zstd),
            [0x50..=0x5F, skippable @ ..] if SKIPPABLE.starts_with(skippable) && !whole => None,
            _ if may_be(GZIP) || may_be(ZSTD) => None,
            _ => Some(Self::None),
        }
    }

    /// Compresses `bytes` as a separate member or frame, to append to a file.
    pub(crate) fn pack(self, bytes: Vec<u8>) -> Result<Vec<u8>, Error> {
        match self {
            Self::None => Ok(bytes),
            Self::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(&bytes)?;
                Ok(encoder.finish()?)
            }
            Self::Zstd => {
                Ok(ruzstd::encoding::compress_to_vec(&bytes[..], ruzstd::encoding::CompressionLevel::Fastest))
            }
        }
    }
}

/// Decompresses a file.
pub(crate) enum Unpacker {
    None,
    Gzip {
        decoder: Box<GzDecoder<Vec<u8>>>,
        /// Whether a member has begun and may be incomplete.
        begun: bool,
    },
    Zstd(Box<Zstd>),
}

impl Unpacker {
    pub(crate) fn new(compression: Compression) -> Self {
        match compression {
            Compression::None => Self::None,
            Compression::Gzip => Self::Gzip { decoder: Box::new(GzDecoder::new(Vec::new())), begun: false },
            Compression::Zstd => Self::Zstd(Box::default()),
        }
    }

    /// Decompresses `bytes` and passes the output to `sink`.
    pub(crate) fn unpack(
        &mut self,
        bytes: &[u8],
        mut sink: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        match self {
            Self::None => sink(bytes),
            Self::Gzip { decoder, begun } => {
                bytes.chunks(PIECE_SIZE).try_for_each(|piece| unpack_gzip(decoder, begun, piece, &mut sink))
            }
            Self::Zstd(zstd) => zstd.unpack(bytes, sink),
        }
    }

    /// Passes the buffered rest to `sink`, and checks that the input is complete.
    pub(crate) fn finish(&mut self, mut sink: impl FnMut(&[u8]) -> Result<(), Error>) -> Result<(), Error> {
        match self {
            Self::Gzip { decoder, begun: true } => {
                decoder.try_finish().map_err(|_| early("gzip"))?;
                sink(decoder.get_ref())?;
                // The following bytes are a new member.
                *self = Self::new(Compression::Gzip);
                Ok(())
            }
            Self::Zstd(zstd) if !zstd.input.is_empty() || zstd.in_frame || zstd.skip > 0 => {
                Err(early("zstd"))
            }
            _ => Ok(()),
        }
    }
}

/// Decompresses a piece of gzip members. Zeros between and after them are padding, as on tapes and in blocks of fixed
/// size. gzip(1) does the same.
fn unpack_gzip(
    decoder: &mut GzDecoder<Vec<u8>>,
    begun: &mut bool,
    mut piece: &[u8],
    sink: &mut impl FnMut(&[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    loop {
        if !*begun {
            let padding = piece.iter().take_while(|byte| **byte == 0).count();
            piece = &piece[padding..];
        }
        if piece.is_empty() {
            return Ok(());
        }
        *begun = true;
        let used = decoder.write(piece).map_err(|error| broken("gzip", error))?;
        piece = &piece[used..];
        let is_over = used == 0;
        if is_over {
            decoder.try_finish().map_err(|error| broken("gzip", error))?;
        }
        sink(decoder.get_ref())?;
        decoder.get_mut().clear();
        if is_over {
            (*decoder, *begun) = (GzDecoder::new(Vec::new()), false);
        }
    }
}

fn broken(kind: &str, error: impl std::fmt::Display) -> Error {
    Error::Compression(format!("the {kind} data is broken: {error}"))
}

fn early(kind: &str) -> Error {
    Error::Compression(format!("the {kind} data ends early"))
}

/// An incremental decoder of zstd frames.
#[derive(Default)]
pub(crate) struct Zstd {
    decoder: Option<FrameDecoder>,
    /// An incomplete block or header: at most 2 MiB, the largest size in a block's header.
    input: Vec<u8>,
    in_frame: bool,
    /// Whether the frame ends in a checksum.
    has_checksum: bool,
    /// The remaining bytes of a skippable frame.
    skip: u64,
}

impl Zstd {
    fn unpack(
        &mut self,
        bytes: &[u8],
        mut sink: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        for piece in bytes.chunks(64 << 10) {
            self.input.extend_from_slice(piece);
            let mut used = 0;
            while let Some(length) = self.step(used, &mut sink)? {
                used += length;
            }
            self.input.drain(..used);
        }
        Ok(())
    }

    /// Decodes the header or block at `from` if it is complete. Returns its length.
    fn step(
        &mut self,
        from: usize,
        sink: &mut impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<Option<usize>, Error> {
        let input = &self.input[from..];
        if self.skip > 0 {
            let length = self.skip.min(input.len() as u64);
            self.skip -= length;
            return Ok((length > 0).then_some(length as usize));
        }
        if !self.in_frame {
            return self.header(from);
        }
        let Some(block) = block_length(input, self.has_checksum) else { return Ok(None) };
        let decoder = self.decoder.as_mut().expect("a frame has a decoder");
        let is_last = decoder
            .decode_blocks(&input[..block], BlockDecodingStrategy::UptoBlocks(1))
            .map_err(|error| broken("zstd", error))?;
        if let Some(unpacked) = decoder.collect() {
            sink(&unpacked)?;
        }
        if is_last {
            self.in_frame = false;
            if self.has_checksum && decoder.get_checksum_from_data() != decoder.get_calculated_checksum() {
                return Err(broken("zstd", "wrong checksum"));
            }
        }
        Ok(Some(block))
    }

    fn header(&mut self, from: usize) -> Result<Option<usize>, Error> {
        let input = &self.input[from..];
        if let [0x50..=0x5F, rest @ ..] = input
            && let Some(length) = rest.strip_prefix(SKIPPABLE)
        {
            let Some(length) = length.first_chunk() else { return Ok(None) };
            self.skip = u64::from(u32::from_le_bytes(*length));
            return Ok(Some(8));
        }
        // RFC 8878 §3.1.1.1: magic number, descriptor, then the fields that the descriptor announces.
        let [_, _, _, _, descriptor, ..] = *input else { return Ok(None) };
        let is_single = descriptor & 0x20 != 0;
        let content_size = match descriptor >> 6 {
            0 => usize::from(is_single),
            size => 1 << size,
        };
        let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
        let length = 5 + usize::from(!is_single) + dictionary + content_size;
        if input.len() < length {
            return Ok(None);
        }
        let decoder = self.decoder.get_or_insert_with(FrameDecoder::new);
        decoder.set_max_window_size(WINDOW_BYTES);
        decoder.reset(&input[..length]).map_err(|error| broken("zstd", error))?;
        self.in_frame = true;
        self.has_checksum = descriptor & 4 != 0;
        Ok(Some(length))
    }
}

/// The length of the block at the start of `input`, with the checksum after the last one; `None` if it is incomplete
/// (RFC 8878 §3.1.1.2).
fn block_length(input: &[u8], has_checksum: bool) -> Option<usize> {
    let [a, b, c, ..] = *input else { return None };
    let header = u32::from_le_bytes([a, b, c, 0]);
    let content = match header >> 1 & 3 {
        1 => 1,
        _ => header as usize >> 3,
    };
    let checksum = if header & 1 == 1 && has_checksum { 4 } else { 0 };
    let length = 3 + content + checksum;
    (input.len() >= length).then_some(length)
}
