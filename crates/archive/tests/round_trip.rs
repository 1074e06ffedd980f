//! Rows become files and rows again: none is lost, doubled or changed, whatever it says.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use shikiri_archive::{ArchiveFile, Archived, Batch, Joiner, Packed, Place, Table, Tally};
use shikiri_evidence::BootId;
use shikiri_record::{
    AddressTag, Begin, CookieTag, Digest, End, Ended, Epoch, FillId, Gap, GrantId, Link, LinkEvent,
    MemberTag, Mode, Outcome, Row, RulesDigest, StanceRow, TargetTag, UnixMillis, ViewerTag,
};

/// A row as it stands in a lane.
#[derive(Clone, Debug)]
struct Standing {
    lane: u32,
    at: UnixMillis,
    body: Vec<u8>,
}

/// Instants of three days, and such as no sound clock has.
fn instant() -> impl Strategy<Value = UnixMillis> {
    const BEGIN: u64 = 1_584_316_800_000;
    const DAYS: u64 = 3 * 86_400_000;
    prop_oneof![
        8 => (BEGIN..BEGIN + DAYS).prop_map(UnixMillis),
        1 => prop_oneof![Just(0), Just(1), Just(u64::MAX), Just(1 << 63)].prop_map(UnixMillis),
    ]
}

/// Few values, so that dictionaries are used, and any.
fn tag() -> impl Strategy<Value = [u8; 16]> {
    prop_oneof![
        6 => (0..4_u8).prop_map(|byte| [byte; 16]),
        1 => any::<[u8; 16]>(),
    ]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "[a-z-]{1,8}", "\\PC{0,16}"]
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0..100_u64, 1 => any::<u64>()]
}

fn begin() -> impl Strategy<Value = Vec<u8>> {
    let texts = (text(), text(), text(), option::of(text()));
    let tags = (
        (tag(), tag()),
        option::of(tag()),
        option::of(tag()),
        option::of(tag()),
        option::of(tag()),
        option::of(tag()),
    );
    let rest = (
        instant(),
        0..Outcome::ALL.len(),
        any::<u16>(),
        vec(tag(), 0..5),
        0..40_u16,
    );
    (texts, tags, rest).prop_map(|(texts, tags, rest)| {
        let (reason, method, class, page) = texts;
        let ((target, address), viewer, viewer_member, owner, fill, grant) = tags;
        let (began, outcome, status, cookies, more) = rest;
        let begin = Begin {
            began,
            outcome: Outcome::ALL[outcome],
            reason: &reason,
            status,
            method: &method,
            class: &class,
            page: page.as_deref(),
            target: TargetTag(target),
            address: AddressTag(address),
            viewer: viewer.map(ViewerTag),
            viewer_member: viewer_member.map(MemberTag),
            owner: owner.map(MemberTag),
            fill: fill.map(|id| FillId(u128::from_be_bytes(id))),
            grant: grant.map(|id| GrantId(u128::from_be_bytes(id))),
            cookies_set: u16::try_from(cookies.len()).unwrap() + more,
            cookies: cookies.into_iter().map(CookieTag).collect(),
        };
        bytes(&Row::Begin(begin))
    })
}

fn rare() -> impl Strategy<Value = Vec<u8>> {
    let link = (
        any::<bool>(),
        tag(),
        option::of(tag()),
        option::of(number()),
    )
        .prop_map(|(started, viewer, member, begin)| {
            let event = if started {
                LinkEvent::Started
            } else {
                LinkEvent::Ended
            };
            bytes(&Row::Link(Link {
                event,
                viewer: ViewerTag(viewer),
                member: member.map(MemberTag),
                begin,
            }))
        });
    let gap = (instant(), instant(), number()).prop_map(|(from, to, responses)| {
        bytes(&Row::Gap(Gap {
            from,
            to,
            responses,
        }))
    });
    let stance =
        (0..4_usize, any::<u8>(), number(), number()).prop_map(|(mode, rules, epoch, tag_key)| {
            bytes(&Row::Stance(StanceRow {
                mode: Mode::ALL[mode],
                rules: RulesDigest(Digest::from_bytes([rules; 32])),
                epoch: Epoch(epoch),
                tag_key,
            }))
        });
    // Of a kind or version that is not known, or no row at all.
    let unknown = vec(any::<u8>(), 0..40);
    prop_oneof![link, gap, stance, unknown]
}

fn bytes(row: &Row<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    row.encode(&mut bytes);
    bytes
}

/// Rows of lanes, where ends may end what is there, what is not there, and the same thing twice.
fn lanes() -> impl Strategy<Value = Vec<Standing>> {
    let end = (0..60_u64, 0..Ended::ALL.len(), number()).prop_map(|(begin, ended, count)| {
        bytes(&Row::End(End {
            begin,
            ended: Ended::ALL[ended],
            bytes: count,
        }))
    });
    let body = prop_oneof![5 => begin(), 4 => end, 2 => rare()];
    let standing = (0..3_u32, instant(), body);
    vec(
        standing.prop_map(|(lane, at, body)| Standing { lane, at, body }),
        0..120,
    )
}

/// Takes rows in through a joiner that is carried over at some places, and through several runs.
fn joined(rows: &[Standing], carry_at: usize, runs: usize) -> (Batch, Tally) {
    let (mut batch, mut tally) = (Batch::new(), Tally::default());
    let mut take = |archived: Archived<'_>| batch.push(&archived);
    let mut joiner = Joiner::default();
    let mut next = [0_u64; 3];
    let per_run = rows.len() / runs.max(1) + 1;
    for (run, rows) in (0_u8..).zip(rows.chunks(per_run)) {
        let boot = BootId([run; 16]);
        for lane in 0..3 {
            joiner.segment(lane, boot, &mut take);
        }
        for (n, row) in rows.iter().enumerate() {
            if n == carry_at {
                joiner = Joiner::resume(joiner.waiting());
                for lane in 0..3 {
                    joiner.segment(lane, boot, &mut take);
                }
            }
            let sequence = &mut next[usize::try_from(row.lane).unwrap()];
            let place = Place {
                boot,
                lane: row.lane,
                sequence: *sequence,
                written: row.at,
            };
            *sequence += 1;
            tally.row(&place, &row.body);
            joiner.row(place, &row.body, &mut take);
        }
    }
    // What still waits is told when the next run begins.
    for lane in 0..3 {
        joiner.segment(lane, BootId([255; 16]), &mut take);
    }
    assert_eq!(joiner.waits(), 0);
    (batch, tally)
}

fn key(archived: &Archived<'_>) -> String {
    // Tags do not print: the bytes do.
    let mut tally = Tally::default();
    tally.archived(archived);
    let stance = match archived {
        Archived::Serve(serve) => serve.stance.map(|stance| bytes(&Row::Stance(stance))),
        _ => None,
    };
    format!("{tally} {stance:?}")
}

fn all_files(batch: &Batch, packed: &Packed) -> (BTreeSet<String>, Tally, usize) {
    let (mut told, mut tally, mut count) = (BTreeSet::new(), Tally::default(), 0);
    for day in batch.days() {
        for table in Table::ALL {
            let written = batch.write(table, "edge-1", day, packed, Vec::new());
            let Some((rows, file)) = written.expect("it can be written") else {
                continue;
            };
            let again = batch.write(table, "edge-1", day, packed, Vec::new());
            assert_eq!(
                again.unwrap().unwrap().1,
                file,
                "the same rows, the same bytes"
            );
            let file = ArchiveFile::new(bytes::Bytes::from(file)).expect("it is ours");
            assert_eq!((file.table(), file.node()), (table, "edge-1"));
            assert_eq!((file.day(), file.rows()), (&*day.to_string(), rows));
            let mut before = 0;
            file.each(&mut |archived| {
                tally.archived(&archived);
                told.insert(key(&archived));
                before += 1;
            })
            .expect("it is sound");
            assert_eq!(before, rows);
            count += 1;
        }
    }
    (told, tally, count)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn no_field_of_a_row_is_lost(
        rows in lanes(),
        carry_at in 0..60_usize,
        runs in 1..4_usize,
        group_rows in 1..50_u64,
    ) {
        let packed = Packed { group_rows, page_rows: 16, ..Packed::STANDARD };
        let (batch, stood) = joined(&rows, carry_at, runs);
        let mut held = BTreeSet::new();
        batch.each(&mut |archived| { held.insert(key(&archived)); });
        let (told, tally, _) = all_files(&batch, &packed);
        prop_assert_eq!(tally, stood);
        prop_assert_eq!(told, held);
    }
}

/// The positive control: what counts the rows does see it when one is lost, doubled or changed.
#[test]
fn a_lost_a_doubled_and_a_changed_row_are_seen() {
    let place = |sequence| Place {
        boot: BootId([1; 16]),
        lane: 0,
        sequence,
        written: UnixMillis(5),
    };
    let of = |rows: &[(u64, &[u8])]| {
        let mut tally = Tally::default();
        for (sequence, body) in rows {
            tally.row(&place(*sequence), body);
        }
        tally
    };
    let whole = of(&[(0, b"a"), (1, b"b"), (2, b"c")]);
    assert_eq!(whole, of(&[(2, b"c"), (0, b"a"), (1, b"b")]));
    for wrong in [
        of(&[(0, b"a"), (1, b"b")]),
        of(&[(0, b"a"), (1, b"b"), (1, b"b"), (2, b"c")]),
        of(&[(0, b"a"), (1, b"b"), (1, b"b")]),
        of(&[(0, b"a"), (1, b"x"), (2, b"c")]),
        of(&[(0, b"a"), (1, b"c"), (2, b"b")]),
    ] {
        assert_ne!(wrong, whole);
    }
}

/// What is damaged, or not ours, is refused: it is never read as rows.
#[test]
fn a_damaged_file_is_not_read_as_true() {
    let gap = bytes(&Row::Gap(Gap {
        from: UnixMillis(1),
        to: UnixMillis(2),
        responses: 3,
    }));
    let rows = vec![
        Standing {
            lane: 0,
            at: UnixMillis(7),
            body: gap,
        };
        200
    ];
    let (batch, stood) = joined(&rows, 0, 1);
    let day = *batch.days().first().unwrap();
    let written = batch.write(Table::Gaps, "n", day, &Packed::STANDARD, Vec::new());
    let (_, whole) = written.unwrap().unwrap();
    let tally = |file: Vec<u8>| {
        let mut tally = Tally::default();
        let file = ArchiveFile::new(bytes::Bytes::from(file)).map_err(|fault| fault.to_string())?;
        let each = file.each(&mut |archived| tally.archived(&archived));
        each.map(|()| tally).map_err(|fault| fault.to_string())
    };
    assert_eq!(tally(whole.clone()), Ok(stood));
    assert!(tally(whole[..whole.len() - 1].to_vec()).is_err());
    assert!(tally(b"PAR1PAR1".to_vec()).is_err());
    // A changed byte is an error or other rows, or it says nothing of the rows; never silently others.
    let mut seen = 0;
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 0x10;
        let changed = std::panic::catch_unwind(|| tally(changed));
        if !matches!(changed, Ok(Ok(same)) if same == stood) {
            seen += 1;
        }
    }
    assert!(seen > whole.len() / 4, "{seen} of {}", whole.len());
}
