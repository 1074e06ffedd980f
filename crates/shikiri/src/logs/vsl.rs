//! Varnish's own log as `varnishlog -w` writes it: records of the shared memory, one after another, into the lines that
//! `varnishlog -g raw` prints.
//!
//! The words are those of the machine that wrote them; of those whose lowest byte comes first alone. Before Varnish 7.3
//! a record began with two words, from then on with three, and fewer tags had numbers: what the file begins with tells.
//!
//! Never guesses: a tag that has no name, or a record that is cut off, is a fault of the file.

use std::io::{self, Read};

/// What a file begins with.
pub(super) const MARK: &[u8; 3] = b"VSL";

/// The numbers of the tags from 1 on, with those of before 7.3 that are gone since.
const FIRST: &[&str] = &[
    "Debug",
    "Error",
    "CLI",
    "SessOpen",
    "SessClose",
    "BackendOpen",
    "BackendReuse",
    "BackendClose",
    "HttpGarbage",
    "Proxy",
    "ProxyGarbage",
    "Backend",
    "Length",
    "FetchError",
];

/// After these come the parts of a message, of each of these.
const MESSAGES: &[&str] = &["Req", "Resp", "Bereq", "Beresp", "Obj"];
const PARTS: &[&str] = &[
    "Method", "URL", "Protocol", "Status", "Reason", "Header", "Unset", "Lost",
];

const LAST: &[&str] = &[
    "BogoHeader",
    "LostHeader",
    "TTL",
    "Fetch_Body",
    "VCL_acl",
    "VCL_call",
    "VCL_trace",
    "VCL_return",
    "ReqStart",
    "Hit",
    "HitPass",
    "ExpBan",
    "ExpKill",
    "WorkThread",
    "ESI_xmlerror",
    "Hash",
    "Backend_health",
    "VCL_Log",
    "VCL_Error",
    "Gzip",
    "Link",
    "Begin",
    "End",
    "VSL",
    "Storage",
    "Timestamp",
    "ReqAcct",
    "PipeAcct",
    "BereqAcct",
    "VfpAcct",
    "Witness",
    "BackendStart",
    "H2RxHdr",
    "H2RxBody",
    "H2TxHdr",
    "H2TxBody",
    "HitMiss",
    "Filters",
    "SessError",
    "VCL_use",
    "Notice",
    "VdpAcct",
];

const GONE: &[&str] = &["BackendReuse", "Backend", "BackendStart"];

/// What holds records together in memory; a file seldom has it.
const BATCH: u8 = 255;

/// Records, as they are read.
pub(super) struct Records<R> {
    from: R,
    tags: Vec<String>,
    /// How many words a record begins with.
    words: usize,
}

impl<R: Read> Records<R> {
    /// Of a file that begins with [`MARK`].
    ///
    /// # Errors
    /// It is of no version that is known.
    pub(super) fn of(mut from: R) -> io::Result<Self> {
        let mut mark = [0; 4];
        from.read_exact(&mut mark)?;
        let (words, is_old) = match &mark {
            b"VSL\0" => (2, true),
            b"VSL2" => (3, false),
            _ => {
                return Err(fault(
                    "it is a log of Varnish's of no version that is known",
                ));
            }
        };
        let is_there = |tag: &&&str| is_old || !GONE.contains(*tag);
        let of_messages = MESSAGES
            .iter()
            .flat_map(|message| PARTS.iter().map(move |part| format!("{message}{part}")));
        let first = FIRST.iter().filter(is_there).map(|tag| (*tag).to_owned());
        let last = LAST.iter().filter(is_there).map(|tag| (*tag).to_owned());
        let bogus = std::iter::once("_Bogus".to_owned());
        Ok(Self {
            from,
            tags: bogus.chain(first).chain(of_messages).chain(last).collect(),
            words,
        })
    }

    /// The next record as a line without its end; nothing at the end of the file.
    ///
    /// # Errors
    /// The file cannot be read, or is not what it says.
    pub(super) fn line(&mut self, line: &mut Vec<u8>) -> io::Result<bool> {
        loop {
            let Some((tag, id, data)) = self.record()? else {
                return Ok(false);
            };
            if tag == BATCH {
                continue;
            }
            let name = self.tags.get(usize::from(tag));
            let name = name.ok_or_else(|| fault("it has a tag that is not known"))?;
            let side = match id >> (self.bits() - 2) {
                1 => 'c',
                2 => 'b',
                _ => '-',
            };
            let id = id & ((1 << (self.bits() - 2)) - 1);
            line.extend_from_slice(format!("{id:>10} {name:<14} {side} ").as_bytes());
            // A record of bytes would be many lines.
            line.extend(data.iter().map(|byte| match byte {
                b'\n' | b'\r' | 0 => b' ',
                byte => *byte,
            }));
            return Ok(true);
        }
    }

    /// How many bits a transaction's number has, with the two that say whose it is.
    const fn bits(&self) -> u32 {
        if self.words == 2 { 32 } else { 64 }
    }

    fn record(&mut self) -> io::Result<Option<(u8, u64, Vec<u8>)>> {
        let mut head = [0; 12];
        let head = &mut head[..4 * self.words];
        // At the end there is no byte; a part of a record is no end.
        if self.from.read(&mut head[..1])? == 0 {
            return Ok(None);
        }
        self.from.read_exact(&mut head[1..])?;
        let word = |at: usize| {
            let bytes = head[4 * at..].first_chunk().expect("a word has four bytes");
            u32::from_le_bytes(*bytes)
        };
        let [low, high, version, tag] = word(0).to_le_bytes();
        // The tag is at the other end where the machine's highest byte comes first.
        let is_version = version == 0 || (self.words == 3 && version == 1);
        if !is_version {
            return Err(fault(
                "its words are not what they should be: it was written by a machine whose highest byte comes first, or \
                 is damaged; read it there, with `varnishlog -r FILE -g raw`",
            ));
        }
        let bytes = usize::from(u16::from_le_bytes([low, high]));
        let id = match self.words {
            2 => u64::from(word(1)),
            _ => u64::from(word(1)) | u64::from(word(2)) << 32,
        };
        let mut data = vec![0; bytes.next_multiple_of(4)];
        self.from.read_exact(&mut data)?;
        data.truncate(bytes);
        // It ends with a zero, which is no part of it.
        if data.last() == Some(&0) {
            data.pop();
        }
        Ok(Some((tag, id, data)))
    }
}

fn fault(words: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, words.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(file: &[u8]) -> io::Result<Vec<String>> {
        let mut records = Records::of(file)?;
        let mut all = Vec::new();
        let mut line = Vec::new();
        while records.line(&mut line)? {
            all.push(String::from_utf8(std::mem::take(&mut line)).expect("it is text"));
        }
        Ok(all)
    }

    /// As Varnish 7.1 wrote it.
    const OLD: &[u8] = b"VSL\0\
        \x0e\x00\x00\x4c\x03\x00\x00\x80bereq 2 fetch\0\0\0\
        \x04\x00\x00\x1f\x03\x00\x00\x80GET\0\
        \x01\x00\x00\x4d\x02\x00\x00\x40\0\0\0\0\
        \x0b\x00\x00\x03\x00\x00\x00\x00Rd ping 42\0\0";

    /// The same from 7.3 on: fewer tags, and numbers of 64 bits.
    const NEW: &[u8] = b"VSL2\
        \x0e\x00\x01\x4a\x03\x00\x00\x00\x01\x00\x00\x80bereq 2 fetch\0\0\0\
        \x04\x00\x01\x1d\x03\x00\x00\x00\x00\x00\x00\x80GET\0";

    #[test]
    fn records_are_the_lines_that_varnishs_own_tool_prints() {
        assert_eq!(
            lines(OLD).unwrap(),
            [
                "         3 Begin          b bereq 2 fetch",
                "         3 BereqMethod    b GET",
                "         2 End            c ",
                "         0 CLI            - Rd ping 42",
            ]
        );
        assert_eq!(
            lines(NEW).unwrap(),
            [
                "4294967299 Begin          b bereq 2 fetch",
                "         3 BereqMethod    b GET",
            ]
        );
    }

    #[test]
    fn what_is_cut_off_or_unknown_is_a_fault() {
        let other_machine = [b"VSL\0".as_slice(), b"\x4c\x00\x00\x0e\x80\x00\x00\x03"].concat();
        let unknown = [b"VSL\0".as_slice(), b"\x00\x00\x00\xf0\x01\x00\x00\x00"].concat();
        for (name, file) in [
            ("cut within a record", OLD.get(..20).unwrap()),
            ("cut within its head", OLD.get(..6).unwrap()),
            ("of no known version", b"VSL9"),
            ("of another machine", &other_machine),
            ("with a tag of no name", &unknown),
        ] {
            assert!(lines(file).is_err(), "{name}");
        }
        assert!(lines(b"VSL\0").unwrap().is_empty());
    }
}
