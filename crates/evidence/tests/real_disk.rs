//! The same on a real disk: a few rows, so that what a file system does differently shows.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use shikiri_evidence::{
    BootId, Cut, Disk, Identity, Item, Mended, Reader, RealDisk, Stream, StreamKind,
};
use shikiri_record::UnixMillis;

#[test]
fn a_stream_on_a_real_disk_goes_on_after_its_process_has_gone() {
    let folder = std::env::temp_dir().join(format!("shikiri-evidence-{}", std::process::id()));
    let lane = folder.join("lane");
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let now = UnixMillis(1_800_000_000_000);
    let identity = || Identity {
        kind: StreamKind::Timeline,
        node: "edge-1".into(),
        boot: BootId::random().unwrap(),
        lane: 0,
    };
    let cut = Cut {
        segment_bytes: 64 << 10,
        age_max: Duration::from_secs(60),
    };
    let open = || Stream::open(Arc::clone(&disk), &lane, identity(), cut, now).unwrap();
    let (first, mended) = open();
    assert!(mended.is_empty(), "{mended:?}");
    for n in 0..100_u8 {
        first.append(now, &[n; 2000]).unwrap();
        first.flush().unwrap();
        assert!(first.maintain(now).is_empty());
    }
    first.sync().unwrap();
    // Only one writes at a time.
    let held = Stream::left_over(Arc::clone(&disk), &lane, identity(), cut, now).unwrap_err();
    assert_eq!(held.error.kind(), std::io::ErrorKind::WouldBlock);
    // A process that is killed seals nothing.
    drop(first);
    let (second, mended) = open();
    assert!(
        matches!(mended[..], [Mended::Recovered { torn_bytes: 0, .. }]),
        "{mended:?}"
    );
    assert_eq!(second.append_durably(now, b"last").unwrap(), 100);
    second.seal(now).unwrap();
    let mut reader = Reader::open(Arc::clone(&disk), &lane).unwrap();
    let mut rows = 0;
    while let Some(item) = reader.next_item().unwrap() {
        match item {
            Item::Row(row) => {
                assert_eq!(row.sequence, rows);
                rows += 1;
            }
            Item::Segment(path, _) => {
                let mode = std::fs::metadata(&path).unwrap().permissions().mode();
                assert_eq!(mode & 0o777, 0o600, "{}", path.display());
            }
            Item::Fault(fault) => panic!("{fault}"),
        }
    }
    assert_eq!((rows, reader.tail().unwrap()), (101, None));
    let mode = std::fs::metadata(&lane).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    assert!(disk.free_bytes(&lane).unwrap() > 0);
    std::fs::remove_dir_all(&folder).unwrap();
}
