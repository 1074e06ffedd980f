//! Log files of other caches: decompressed as they are read, and cut into lines.
//!
//! Never holds more than a line. What a file is compressed with is told by its first bytes, not by its name.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use shikiri_incident::foreign::LINE_BYTES_MAX;

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
        [0x28, 0xb5, 0x2f, 0xfd, ..] => return Err(other_tool("zstd", "zstd -d")),
        [b'B', b'Z', b'h', ..] => return Err(other_tool("bzip2", "bunzip2")),
        _ => Box::new(file),
    })
}

fn other_tool(what: &str, tool: &str) -> io::Error {
    io::Error::other(format!(
        "it is compressed with {what}, which is not read here: run `{tool}` first"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
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
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn files_are_cut_into_lines_however_they_are_compressed() {
        let long = [vec![b'x'; LINE_BYTES_MAX + 500], b"\nb".to_vec()].concat();
        let twice = [gzip(b"a\nbc"), gzip(b"d\n")].concat();
        for (name, bytes, expected) in [
            ("empty", b"".to_vec(), vec![]),
            ("plain", b"a\n\nbc".to_vec(), vec![(1, 1), (2, 0), (3, 2)]),
            ("gzip", gzip(b"a\nbc\n"), vec![(1, 1), (2, 2)]),
            // Rotated logs are appended to each other.
            ("two", twice, vec![(1, 1), (2, 3)]),
            ("long", long, vec![(1, LINE_BYTES_MAX + 2), (2, 1)]),
        ] {
            assert_eq!(lines(name, &bytes), Ok(expected), "{name}");
        }
        let mut cut = gzip(&[b'a'; 5000]);
        cut.truncate(cut.len() - 6);
        assert!(lines("cut", &cut).is_err(), "half a file is no file");
    }
}
