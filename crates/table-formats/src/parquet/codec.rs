//! Decompression of pages to a known size.

use std::io::Read;

use parquet::basic::Compression;
use ruzstd::decoding::{FrameDecoder, StreamingDecoder};

use super::{invalid, unsupported};
use crate::FormatError;

/// The largest window of a zstd frame: that of level 20.
const WINDOW_BYTES: u64 = 32 << 20;

/// Decompresses `bytes` to exactly `size` bytes, which the caller has checked.
pub(super) fn decompress(codec: Compression, bytes: &[u8], size: usize) -> Result<Vec<u8>, FormatError> {
    let out = match codec {
        Compression::UNCOMPRESSED => bytes.to_vec(),
        Compression::SNAPPY => {
            if snap::raw::decompress_len(bytes).ok() != Some(size) {
                return Err(wrong_size());
            }
            let mut out = vec![0; size];
            snap::raw::Decoder::new()
                .decompress(bytes, &mut out)
                .map_err(|error| broken("Snappy", &error))?;
            out
        }
        Compression::GZIP(_) => read("gzip", flate2::read::MultiGzDecoder::new(bytes), size)?,
        Compression::ZSTD(_) => {
            let mut frames = FrameDecoder::new();
            frames.set_max_window_size(WINDOW_BYTES);
            let decoder = StreamingDecoder::new_with_decoder(bytes, frames);
            read("zstd", decoder.map_err(|error| broken("zstd", &error))?, size)?
        }
        Compression::LZ4_RAW => lz4(bytes, size)?,
        Compression::LZ4 => match hadoop_lz4(bytes, size) {
            Some(out) => out,
            None => lz4(bytes, size)?,
        },
        Compression::BROTLI(_) => return Err(unsupported("pages that are compressed with Brotli")),
        Compression::LZO => return Err(unsupported("pages that are compressed with LZO")),
    };
    if out.len() == size { Ok(out) } else { Err(wrong_size()) }
}

fn read(name: &str, from: impl Read, size: usize) -> Result<Vec<u8>, FormatError> {
    let mut out = Vec::with_capacity(size);
    from.take(size as u64 + 1).read_to_end(&mut out).map_err(|error| broken(name, &error))?;
    Ok(out)
}

fn lz4(bytes: &[u8], size: usize) -> Result<Vec<u8>, FormatError> {
    let mut out = vec![0; size];
    let length = lz4_flex::block::decompress_into(bytes, &mut out).map_err(|error| broken("LZ4", &error))?;
    out.truncate(length);
    Ok(out)
}

/// LZ4 blocks as Hadoop writes them: each after its size and its compressed size, in big endian. `None`: in another
/// form.
fn hadoop_lz4(mut bytes: &[u8], size: usize) -> Option<Vec<u8>> {
    let mut out = vec![0; size];
    let mut at = 0_usize;
    while !bytes.is_empty() {
        let (head, rest) = bytes.split_first_chunk::<8>()?;
        let number =
            |from: usize| u32::from_be_bytes([head[from], head[from + 1], head[from + 2], head[from + 3]]);
        let (length, compressed) = (number(0) as usize, number(4) as usize);
        let end = at.checked_add(length).filter(|end| *end <= size)?;
        let block = rest.get(..compressed)?;
        if lz4_flex::block::decompress_into(block, &mut out[at..end]).ok()? != length {
            return None;
        }
        (at, bytes) = (end, &rest[compressed..]);
    }
    out.truncate(at);
    Some(out)
}

fn broken(name: &str, error: &dyn std::fmt::Display) -> FormatError {
    invalid(&format!("a page with invalid {name} data: {error}"))
}

fn wrong_size() -> FormatError {
    invalid("a page has another size than its header says")
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use parquet::basic::{GzipLevel, ZstdLevel};
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(bytes).unwrap();
        packed.finish().unwrap()
    }

    /// Blocks as Hadoop writes them.
    fn hadoop(parts: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        for part in parts {
            let block = lz4_flex::block::compress(part);
            out.extend_from_slice(&(part.len() as u32).to_be_bytes());
            out.extend_from_slice(&(block.len() as u32).to_be_bytes());
            out.extend_from_slice(&block);
        }
        out
    }

    fn pages(page: &[u8]) -> Vec<(Compression, Vec<u8>)> {
        let snappy = snap::raw::Encoder::new().compress_vec(page).unwrap();
        let block = lz4_flex::block::compress(page);
        let (one, other) = page.split_at(page.len() / 3);
        vec![
            (Compression::UNCOMPRESSED, page.to_vec()),
            (Compression::SNAPPY, snappy),
            (Compression::GZIP(GzipLevel::default()), gzip(page)),
            (Compression::ZSTD(ZstdLevel::default()), compress_to_vec(page, CompressionLevel::Fastest)),
            (Compression::LZ4_RAW, block.clone()),
            (Compression::LZ4, block),
            (Compression::LZ4, hadoop(&[one, other])),
        ]
    }

    #[test]
    fn a_page_has_exactly_the_size_of_its_header_in_every_compression() {
        let page: Vec<u8> = (0..100_000_u32).flat_map(|number| (number / 7).to_le_bytes()).collect();
        for (codec, packed) in pages(&page) {
            assert_eq!(decompress(codec, &packed, page.len()).unwrap(), page, "{codec:?}");
            for size in [0, page.len() - 1, page.len() + 1] {
                let error = decompress(codec, &packed, size).unwrap_err();
                assert!(matches!(error, FormatError::Invalid { .. }), "{codec:?}: {error}");
            }
            if codec != Compression::UNCOMPRESSED {
                let error = decompress(codec, &packed[..packed.len() / 2], page.len()).unwrap_err();
                assert!(matches!(error, FormatError::Invalid { .. }), "{codec:?}: {error}");
            }
        }
    }

    #[test]
    fn unknown_compressions_are_named() {
        let error = decompress(Compression::LZO, b"", 0).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the Parquet file has pages that are compressed with LZO, which is not supported"
        );
    }
}
