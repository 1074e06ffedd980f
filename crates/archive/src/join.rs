//! Rows of lanes, one after another, become what stands in the archive: a begin row waits for its end
//! row, and takes with it what it was served under.
//!
//! Never drops a row: a begin row that still waits is carried on ([`Joiner::waiting`]), one whose run is
//! over is told without an end, and an end row that ends nothing is told as bytes.

use std::collections::BTreeMap;

use shikiri_evidence::BootId;
use shikiri_record::{Row, StanceRow};

use crate::rows::{Archived, Ending, Place, Serve};

/// Where the lanes' rows stand.
#[derive(Debug, Default)]
pub struct Joiner {
    lanes: BTreeMap<u32, Lane>,
}

#[derive(Debug, Default)]
struct Lane {
    boot: Option<BootId>,
    stance: Option<StanceRow>,
    waiting: BTreeMap<u64, Waiting>,
}

/// A begin row whose end row has not come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Where it stood.
    pub place: Place,
    /// What it was served under.
    pub stance: Option<StanceRow>,
    /// Its bytes.
    pub body: Vec<u8>,
}

impl Joiner {
    /// Goes on with what waited before.
    #[must_use]
    pub fn resume(waiting: Vec<Waiting>) -> Self {
        let mut joiner = Self::default();
        for one in waiting {
            let lane = joiner.lanes.entry(one.place.lane).or_default();
            lane.boot = Some(one.place.boot);
            lane.waiting.insert(one.place.sequence, one);
        }
        joiner
    }

    /// A segment of a lane begins. Where another run of the node wrote it, what waited for its end waits
    /// in vain, and is told.
    pub fn segment(&mut self, lane: u32, boot: BootId, tell: &mut dyn FnMut(Archived<'_>)) {
        let lane = self.lanes.entry(lane).or_default();
        lane.stance = None;
        if lane.boot.replace(boot) != Some(boot) {
            for (_, waiting) in std::mem::take(&mut lane.waiting) {
                waiting.tell(None, tell);
            }
        }
    }

    /// The next row of a lane, whose segment was begun.
    pub fn row(&mut self, place: Place, body: &[u8], tell: &mut dyn FnMut(Archived<'_>)) {
        let lane = self.lanes.entry(place.lane).or_default();
        let Some(row) = faithful(body) else {
            return tell(Archived::Other(place, body));
        };
        match row {
            Row::Begin(_) => {
                let waiting = Waiting {
                    place,
                    stance: lane.stance,
                    body: body.to_vec(),
                };
                if let Some(double) = lane.waiting.insert(place.sequence, waiting) {
                    // Two rows of one number: neither is thrown away.
                    double.tell(None, tell);
                }
            }
            Row::End(end) => {
                let Some(waiting) = lane.waiting.remove(&end.begin) else {
                    return tell(Archived::Other(place, body));
                };
                let ending = Ending {
                    sequence: place.sequence,
                    written: place.written,
                    ended: end.ended,
                    bytes: end.bytes,
                };
                waiting.tell(Some(ending), tell);
            }
            Row::Link(link) => tell(Archived::Link(place, link)),
            Row::Gap(gap) => tell(Archived::Gap(place, gap)),
            Row::Stance(stance) => {
                lane.stance = Some(stance);
                tell(Archived::Stance(place, stance));
            }
        }
    }

    /// How many begin rows wait.
    #[must_use]
    pub fn waits(&self) -> usize {
        self.lanes.values().map(|lane| lane.waiting.len()).sum()
    }

    /// The begin rows whose end rows have not come, by lane and number.
    #[must_use]
    pub fn waiting(self) -> Vec<Waiting> {
        let lanes = self.lanes.into_values();
        lanes.flat_map(|lane| lane.waiting.into_values()).collect()
    }
}

impl Waiting {
    /// Tells it as a response of which no end row has come.
    pub fn without_end(&self, tell: &mut dyn FnMut(Archived<'_>)) {
        self.tell(None, tell);
    }

    fn tell(&self, ending: Option<Ending>, tell: &mut dyn FnMut(Archived<'_>)) {
        let Some(Row::Begin(begin)) = faithful(&self.body) else {
            return tell(Archived::Other(self.place, &self.body));
        };
        tell(Archived::Serve(Serve {
            place: self.place,
            begin,
            stance: self.stance,
            ending,
        }));
    }
}

/// The row of some bytes, where it can be made into the same bytes again.
fn faithful(body: &[u8]) -> Option<Row<'_>> {
    let row = Row::decode(body).ok()?;
    let mut again = Vec::with_capacity(body.len());
    row.encode(&mut again);
    (again == body).then_some(row)
}
