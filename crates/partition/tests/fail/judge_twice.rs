//! A fill is judged once.

use http::{HeaderMap, StatusCode};
use shikiri_partition::Fill;
use shikiri_record::UnixMillis;

fn judge(fill: Fill) {
    let _first = fill.judge(StatusCode::OK, HeaderMap::new(), true, UnixMillis(0));
    let _second = fill.judge(StatusCode::OK, HeaderMap::new(), true, UnixMillis(0));
}

fn main() {}
