//! A log of another cache, by a form that is given in its first line: every line is read or told as bad, the
//! same each time; and no time ends before it begins.

#![no_main]

use libfuzzer_sys::fuzz_target;
use shikiri_incident::Zone;
use shikiri_incident::encoding::Encoding;
use shikiri_incident::foreign::{Edges, Format, Read, Reader, SessionIn, Settings, sniff};
use shikiri_record::TagKey;

fuzz_target!(|input: &[u8]| {
    let mut lines = input.split(|byte| *byte == b'\n');
    let Some(form) = lines.next().and_then(|form| str::from_utf8(form).ok()) else {
        return;
    };
    let lines: Vec<&[u8]> = lines.collect();
    let Some(format) = format(form) else {
        drop(sniff(&lines));
        return;
    };
    let japanese = Encoding::named("shift_jis").expect("it has this name");
    for encoding in [Encoding::UTF_8, japanese] {
        let read = || read(format.clone(), encoding, &lines);
        assert_eq!(read(), read(), "one log, one reading");
    }
});

/// `nginx $status …`, `apache %h …`, `varnish %h …`, or a name.
fn format(form: &str) -> Option<Format> {
    let (name, text) = form.split_once(' ').unwrap_or((form, ""));
    match name {
        "nginx" => Format::nginx(text).ok(),
        "apache" => Format::apache(text).ok(),
        "varnish" => Format::varnish(text).ok(),
        "json" => Format::json(&text.replace(';', "\n")).ok(),
        name => Format::named(name).ok(),
    }
}

fn read(format: Format, encoding: Encoding, lines: &[&[u8]]) -> Vec<Read> {
    let settings = Settings {
        tag_key: TagKey::new([1; 32]),
        encoding,
        session: SessionIn::Cookie("sid".into()),
        zone: Zone::JST,
        host: "shop.test".into(),
        edge: None,
        misses_are_stored: true,
        logins: vec!["/login".into()],
        lag_ms_max: 0,
        took_by_readings: true,
    };
    let (mut reader, mut edges) = (Reader::new(format, settings), Edges::default());
    let read: Vec<Read> = lines
        .iter()
        .map(|line| reader.line(line, &mut edges))
        .collect();
    for read in &read {
        if let Read::Request(request) = read {
            let times = request.asked.times;
            assert!(times.began.earliest <= times.began.latest);
            assert!(times.ended.earliest <= times.ended.latest);
            assert!(times.during().earliest <= times.during().latest);
        }
    }
    let counts = reader.counts();
    let bad: u64 = counts.bad.values().sum();
    assert_eq!(counts.lines, counts.requests + counts.nothing + bad);
    read
}
