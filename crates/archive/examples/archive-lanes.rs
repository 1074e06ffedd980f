//! A data folder's lanes with rows as a busy store would leave them: for tests of the command.
//!
//! Never overwrites: a folder that has lanes gets another run's rows.

use std::path::PathBuf;

use shikiri_archive::sample::{Sample, SampleLanes, Site};

const USAGE: &str = "usage: archive-lanes FOLDER SEED RESPONSES [SEGMENT_BYTES]";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().ok_or(USAGE)?);
    let mut number = || arguments.next().map(|text| text.parse::<u64>()).transpose();
    let (seed, responses) = (number()?.ok_or(USAGE)?, number()?.ok_or(USAGE)?);
    let segment_bytes = number()?.unwrap_or(1 << 20);
    let mut sample = Sample::new(Site::STORE, seed);
    let mut lanes =
        SampleLanes::open(&folder, "edge-1", sample.boot(), Site::STORE, segment_bytes)?;
    sample.tell(responses, &mut |place, row| lanes.row(&place, row));
    sample.finish(&mut |place, row| lanes.row(&place, row));
    lanes.seal(sample.now())?;
    Ok(())
}
