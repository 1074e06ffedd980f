//! `docs/evidence-format.md` says what the code writes: its tables are read, and held against rows.

use shikiri_record::{
    AddressTag, Begin, CookieTag, Digest, END_BYTES, End, Ended, Epoch, FillId, Gap, GrantId, Link,
    LinkEvent, MemberTag, Mode, Outcome, ROW_TEXT_BYTES_MAX, ROW_VERSION, Row, RulesDigest,
    STANCE_BYTES, StanceRow, TargetTag, UnixMillis, ViewerTag,
};

const DOCUMENT: &str = include_str!("../../../docs/evidence-format.md");

/// The cells of each table's rows under a heading, table by table.
fn tables(heading: &str) -> Vec<Vec<Vec<&'static str>>> {
    let (_, part) = DOCUMENT
        .split_once(&format!("\n{heading}\n"))
        .unwrap_or_else(|| panic!("no `{heading}`"));
    let part = part.split("\n#").next().unwrap();
    let mut tables = vec![Vec::new()];
    for line in part.lines() {
        match line
            .strip_prefix('|')
            .and_then(|line| line.strip_suffix('|'))
        {
            Some(cells) => {
                let cells = cells.split('|').map(str::trim).collect();
                tables.last_mut().unwrap().push(cells);
            }
            None if tables.last().unwrap().is_empty() => {}
            None => tables.push(Vec::new()),
        }
    }
    tables.retain(|table| !table.is_empty());
    // Without the head and the line under it.
    tables.iter().map(|table| table[2..].to_vec()).collect()
}

/// How long a row is by its table, with texts of these lengths and so many cookies.
fn bytes(heading: &str, text: usize, cookies: usize) -> usize {
    let of = |cells: &Vec<&str>| match cells[0] {
        "1 + …" => 1 + text,
        "16 each" => 16 * cookies,
        number => number.parse().unwrap(),
    };
    tables(heading)[0].iter().map(of).sum()
}

fn encoded(row: &Row<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    row.encode(&mut bytes);
    bytes
}

fn full() -> Begin<'static> {
    Begin {
        began: UnixMillis(1),
        outcome: Outcome::Hit,
        reason: "text",
        status: 200,
        method: "text",
        class: "text",
        page: Some("text"),
        target: TargetTag([1; 16]),
        address: AddressTag([2; 16]),
        viewer: Some(ViewerTag([3; 16])),
        viewer_member: Some(MemberTag([4; 16])),
        owner: Some(MemberTag([5; 16])),
        fill: Some(FillId(6)),
        grant: Some(GrantId(7)),
        cookies: vec![CookieTag([8; 16]); 3],
        cookies_set: 3,
    }
}

#[test]
fn rows_are_as_long_as_their_tables_say() {
    assert_eq!(encoded(&Row::Begin(full())).len(), bytes("### Begin", 4, 3));
    let end = Row::End(End {
        begin: 1,
        ended: Ended::Cut,
        bytes: 2,
    });
    assert_eq!(encoded(&end).len(), bytes("### End", 0, 0));
    assert_eq!(END_BYTES, bytes("### End", 0, 0));
    let link = Row::Link(Link {
        event: LinkEvent::Started,
        viewer: ViewerTag([1; 16]),
        member: Some(MemberTag([2; 16])),
        begin: Some(3),
    });
    assert_eq!(encoded(&link).len(), bytes("### Link", 0, 0));
    let gap = Row::Gap(Gap {
        from: UnixMillis(1),
        to: UnixMillis(2),
        responses: 3,
    });
    assert_eq!(encoded(&gap).len(), bytes("### Gap", 0, 0));
    assert_eq!(STANCE_BYTES, bytes("### Stance", 0, 0));
}

#[test]
fn kinds_words_and_bounds_are_those_of_the_document() {
    let stance = |mode| {
        Row::Stance(StanceRow {
            mode,
            rules: RulesDigest(Digest::of(b"")),
            epoch: Epoch(1),
            tag_key: 2,
        })
    };
    let kinds = [
        Row::Begin(full()),
        Row::End(End {
            begin: 1,
            ended: Ended::Cut,
            bytes: 2,
        }),
        Row::Link(Link {
            event: LinkEvent::Ended,
            viewer: ViewerTag([1; 16]),
            member: None,
            begin: None,
        }),
        Row::Gap(Gap {
            from: UnixMillis(1),
            to: UnixMillis(2),
            responses: 3,
        }),
        stance(Mode::Open),
    ];
    let names = ["begin", "end", "link", "gap", "stance"];
    let said: Vec<(String, &str)> = tables("## Rows")[0]
        .iter()
        .map(|cells| (cells[0].to_owned(), cells[1]))
        .collect();
    let written: Vec<(String, &str)> = kinds
        .iter()
        .zip(names)
        .map(|(row, name)| (encoded(row)[0].to_string(), name))
        .collect();
    assert_eq!(said, written);
    let words = |table: &[Vec<&'static str>]| -> Vec<(String, &'static str)> {
        let of = |cells: &Vec<&'static str>| (cells[0].to_owned(), cells[1]);
        table.iter().map(of).collect()
    };
    let outcomes = Outcome::ALL
        .iter()
        .map(|o| (o.byte().to_string(), o.name()));
    assert_eq!(words(&tables("### Begin")[1]), outcomes.collect::<Vec<_>>());
    let ended = Ended::ALL.iter().map(|e| (e.byte().to_string(), e.name()));
    assert_eq!(words(&tables("### End")[1]), ended.collect::<Vec<_>>());
    for mode in Mode::ALL {
        let byte = encoded(&stance(mode))[2];
        assert!(DOCUMENT.contains(&format!("{byte} {mode}")), "{mode}");
    }
    assert!(DOCUMENT.contains(&format!("version {ROW_VERSION} of rows")));
    assert!(DOCUMENT.contains(&format!("(1 byte, at most {ROW_TEXT_BYTES_MAX})")));
}
