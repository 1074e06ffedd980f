//! `docs/evidence-format.md` says what the code writes: its tables of the segment are read, and a
//! segment is read by them alone.

use shikiri_evidence::segment::{
    BODY_BYTES_MAX, FRAME_BYTES, HEADER_BYTES, Header, MAGIC, NODE_BYTES_MAX, SEAL_BYTES, Seal,
    VERSION, put_row, put_seal,
};
use shikiri_evidence::{BootId, Chain, StreamKind};
use shikiri_record::UnixMillis;

const DOCUMENT: &str = include_str!("../../../docs/evidence-format.md");

/// The cells of the first table after some words.
fn table(words: &str) -> Vec<Vec<&'static str>> {
    let (_, part) = DOCUMENT
        .split_once(words)
        .unwrap_or_else(|| panic!("no `{words}`"));
    let lines = part.lines().skip_while(|line| !line.starts_with('|'));
    let rows = lines.take_while(|line| line.starts_with('|')).skip(2);
    rows.map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect()
}

fn number(text: &str) -> usize {
    text.parse().unwrap()
}

#[test]
fn a_header_has_its_fields_where_the_table_says() {
    let header = Header {
        kind: StreamKind::Timeline,
        node: "edge-1".into(),
        boot: BootId([0xb0; 16]),
        lane: 0x1111_1111,
        number: 0x2222_2222_2222_2222,
        first: 0x3333_3333_3333_3333,
        began: UnixMillis(0x4444_4444_4444_4444),
        before: Chain::BEGINNING,
    };
    let bytes = header.encode();
    let mut end = 0;
    for cells in table("## A segment's header") {
        let (offset, length) = (number(cells[0]), number(cells[1]));
        assert_eq!(offset, end, "{}", cells[2]);
        end += length;
        let field = &bytes[offset..end];
        let holds = |byte: u8| field.iter().all(|b| *b == byte);
        let fits = match cells[2] {
            "`shikiri\\n`" => field == MAGIC,
            "version: 1" => field == VERSION.to_le_bytes() && VERSION == 1,
            "the length of the node's name" => field == [6],
            "the node's name, then zeros" => {
                length == NODE_BYTES_MAX && field.starts_with(b"edge-1\0")
            }
            "lane" => holds(0x11),
            "the segment's number" => holds(0x22),
            "the sequence number of its first row" => holds(0x33),
            "the instant at which it was begun" => holds(0x44),
            what if what.starts_with("of what the stream is") => field == [2],
            what if what.starts_with("boot") => holds(0xb0),
            what if what.starts_with("the chain after") => holds(0),
            what if what.starts_with("check") => {
                field == &blake3::hash(&bytes[..offset]).as_bytes()[..8]
            }
            what => panic!("no field is called {what}"),
        };
        assert!(fits, "{}: {field:02x?}", cells[2]);
    }
    assert_eq!(end, HEADER_BYTES);
    assert!(DOCUMENT.contains(&format!("begins with {HEADER_BYTES} zeros")));
}

#[test]
fn frames_are_read_by_the_document_alone() {
    let header = Header {
        kind: StreamKind::Lane,
        node: "n".into(),
        boot: BootId([1; 16]),
        lane: 0,
        number: 1,
        first: 0,
        began: UnixMillis(5),
        before: Chain::BEGINNING,
    };
    let mut bytes = header.encode().to_vec();
    let chain = put_row(&mut bytes, &header.chain(), UnixMillis(6), b"a row");
    let seal = Seal {
        at: UnixMillis(7),
        rows: 1,
        recovered: true,
        torn_bytes: 9,
        chain,
    };
    put_seal(&mut bytes, &chain, &seal);
    // As the page says it: length, check, payload; the chain over the digest before.
    let mut digest = *blake3::hash(&bytes[..152]).as_bytes();
    let (mut at, mut payloads) = (HEADER_BYTES, Vec::new());
    while at < bytes.len() {
        let length = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let size = usize::try_from(length & !(1 << 31)).unwrap();
        let payload = &bytes[at + 12..at + 12 + size];
        let before = digest;
        let all = [&before[..], &length.to_le_bytes(), payload].concat();
        digest = *blake3::hash(&all).as_bytes();
        assert_eq!(&bytes[at + 4..at + 12], &digest[..8]);
        payloads.push((length >> 31, payload, before));
        at += 12 + size;
    }
    let (row, sealed) = (&payloads[0], &payloads[1]);
    assert_eq!((row.0, sealed.0), (0, 1));
    assert_eq!(row.1, [&6_u64.to_le_bytes()[..], b"a row"].concat());
    assert_eq!(FRAME_BYTES, 4 + 8 + 8);
    assert_eq!(BODY_BYTES_MAX, 1 << 20);
    let lengths: Vec<usize> = table("**A seal's payload**")
        .iter()
        .map(|cells| number(cells[0]))
        .collect();
    assert_eq!(lengths, [8, 8, 1, 8, 32]);
    assert_eq!(12 + lengths.iter().sum::<usize>(), SEAL_BYTES);
    let (at, rest) = sealed.1.split_at(8);
    let (rows, rest) = rest.split_at(8);
    let (recovered, rest) = rest.split_at(1);
    let (torn, names) = rest.split_at(8);
    assert_eq!(
        (at, rows),
        (&7_u64.to_le_bytes()[..], &1_u64.to_le_bytes()[..])
    );
    assert_eq!((recovered, torn), (&[1_u8][..], &9_u64.to_le_bytes()[..]));
    assert_eq!(names, sealed.2);
}
