//! Log files of other caches: decompressed as they are read, and cut into lines.
//!
//! A file of `varnishlog -w` is cut into records.
//!
//! Never holds more than a line. What a file is compressed with is told by its first bytes, not by its name.

mod vsl;

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use bzip2::read::MultiBzDecoder;
use flate2::read::MultiGzDecoder;
use ruzstd::decoding::{FrameDecoder, StreamingDecoder};
use shikiri_incident::foreign::LINE_BYTES_MAX;
use vsl::Records;

/// Gives each line of a file, without its end, and its number from 1. Of a line that is longer than
/// [`LINE_BYTES_MAX`], so much is given that it shows.
///
/// # Errors
/// In words: the file cannot be read to its end, or `take` refused a line.
pub(crate) fn each_line(
    path: &Path,
    mut take: impl FnMut(u64, &[u8]) -> Result<(), String>,
) -> Result<(), String> {
    let shown = path.display();
    let fault = |error: io::Error| format!("{shown}: cannot be read to its end: {error}");
    let mut reader = open(path).map_err(|error| format!("cannot read {shown}: {error}"))?;
    let mut line = Vec::new();
    let mut number = 0;
    if reader.fill_buf().map_err(fault)?.starts_with(vsl::MARK) {
        let mut records = Records::of(reader).map_err(fault)?;
        while records.line(&mut line).map_err(fault)? {
            number += 1;
            take(number, &line)?;
            line.clear();
        }
        return Ok(());
    }
    loop {
        line.clear();
        let limit = u64::try_from(LINE_BYTES_MAX).expect("it fits") + 2;
        let read = (&mut reader).take(limit).read_until(b'\n', &mut line);
        if read.map_err(fault)? == 0 {
            return Ok(());
        }
        let is_whole = line.last() == Some(&b'\n');
        if is_whole {
            line.pop();
        } else {
            reader.skip_until(b'\n').map_err(fault)?;
        }
        number += 1;
        take(number, &line)?;
    }
}

fn open(path: &Path) -> io::Result<Box<dyn BufRead>> {
    let mut file = BufReader::new(File::open(path)?);
    let head = file.fill_buf()?;
    Ok(match head {
        [0x1f, 0x8b, ..] => Box::new(BufReader::new(MultiGzDecoder::new(file))),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(BufReader::new(Zstd::of(file))),
        [b'B', b'Z', b'h', ..] => Box::new(BufReader::new(MultiBzDecoder::new(file))),
        _ => Box::new(file),
    })
}

/// A file of Zstandard frames, one after another (RFC 8878).
struct Zstd {
    /// Where no frame is being read.
    file: Option<BufReader<File>>,
    frame: Option<StreamingDecoder<BufReader<File>, FrameDecoder>>,
}

impl Zstd {
    const fn of(file: BufReader<File>) -> Self {
        Self {
            file: Some(file),
            frame: None,
        }
    }
}

impl Read for Zstd {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(frame) = &mut self.frame {
                let read = frame.read(into)?;
                if read > 0 || into.is_empty() {
                    return Ok(read);
                }
            }
            if let Some(frame) = self.frame.take() {
                let (file, frame) = frame.into_parts();
                let told = frame.get_checksum_from_data();
                if told.is_some() && told != frame.get_calculated_checksum() {
                    return Err(io::Error::other("its checksum is another"));
                }
                self.file = Some(file);
            }
            let Some(mut file) = self.file.take() else {
                return Ok(0);
            };
            if file.fill_buf()?.is_empty() {
                return Ok(0);
            }
            let frame = StreamingDecoder::new(file).map_err(io::Error::other)?;
            self.frame = Some(frame);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bzip2::write::BzEncoder;
    use flate2::write::GzEncoder;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};
    use std::io::Write;

    fn lines(name: &str, bytes: &[u8]) -> Result<Vec<(u64, usize)>, String> {
        let path = std::env::temp_dir().join(format!("shikiri-logs-{}-{name}", std::process::id()));
        std::fs::write(&path, bytes).unwrap();
        let mut found = Vec::new();
        let read = each_line(&path, |number, line| {
            found.push((number, line.len()));
            Ok(())
        });
        std::fs::remove_file(&path).unwrap();
        read.map(|()| found)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn bzip2(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = BzEncoder::new(Vec::new(), bzip2::Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        compress_to_vec(bytes, CompressionLevel::Fastest)
    }

    #[test]
    fn files_are_cut_into_lines_however_they_are_compressed() {
        let long = [vec![b'x'; LINE_BYTES_MAX + 500], b"\nb".to_vec()].concat();
        for (name, bytes, expected) in [
            ("empty", b"".to_vec(), vec![]),
            ("plain", b"a\n\nbc".to_vec(), vec![(1, 1), (2, 0), (3, 2)]),
            ("long", long, vec![(1, LINE_BYTES_MAX + 2), (2, 1)]),
        ] {
            assert_eq!(lines(name, &bytes), Ok(expected), "{name}");
        }
        for (name, pack) in [
            ("gzip", gzip as fn(&[u8]) -> Vec<u8>),
            ("bzip2", bzip2),
            ("zstd", zstd),
        ] {
            assert_eq!(
                lines(name, &pack(b"a\nbc\n")),
                Ok(vec![(1, 1), (2, 2)]),
                "{name}"
            );
            // Rotated logs are appended to each other.
            let twice = [pack(b"a\nbc"), pack(b"d\n")].concat();
            assert_eq!(lines(name, &twice), Ok(vec![(1, 1), (2, 3)]), "{name}");
            // Half a file is no file, and neither is a damaged one.
            let text: Vec<u8> = (0..5000_u32)
                .flat_map(|it| (it * it).to_be_bytes())
                .collect();
            let whole = pack(&text);
            let cut = whole.get(..whole.len() - 6).unwrap();
            assert!(lines(name, cut).is_err(), "{name}");
            let mut damaged = whole.clone();
            let at = damaged.len() / 2;
            damaged[at] ^= 0x10;
            assert!(lines(name, &damaged).is_err(), "{name}");
        }
    }
}
