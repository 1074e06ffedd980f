//! `docs/evidence-format.md` says what the files hold: its tables are read, and held against the schema.

use shikiri_archive::schema::{Column, Kind, Packing};
use shikiri_archive::{SCHEMA_VERSION, Table};

const DOCUMENT: &str = include_str!("../../../docs/evidence-format.md");

fn part(heading: &str) -> &'static str {
    let (_, part) = DOCUMENT
        .split_once(&format!("\n{heading}\n"))
        .unwrap_or_else(|| panic!("no `{heading}`"));
    part.split("\n#").next().unwrap()
}

fn row(column: &Column) -> String {
    let kind = match column.kind {
        Kind::Text => "BYTE_ARRAY (STRING)".to_owned(),
        Kind::Instant => "INT64 (TIMESTAMP(MILLIS,true))".to_owned(),
        Kind::Tags => format!("LIST of {}", column.kind.parquet()),
        kind => kind.parquet().to_owned(),
    };
    let null = if column.may_lack { "yes" } else { "" };
    let packed = match column.packing {
        Packing::Dictionary => "dictionary",
        Packing::Delta => "delta",
        Packing::Plain => "plain",
    };
    let bloom = if column.bloom { ", bloom filter" } else { "" };
    format!(
        "| `{}` | {kind} | {null} | {packed}{bloom} | {} |",
        column.name, column.says
    )
}

#[test]
fn every_column_of_every_table_stands_in_the_document() {
    for table in Table::ALL {
        let part = part(&format!("### Table `{}`", table.name()));
        let rows = part.lines().filter(|line| line.starts_with("| `"));
        let rows: Vec<&str> = rows.collect();
        let expected: Vec<String> = table.columns().iter().map(row).collect();
        assert_eq!(rows, expected, "{}", table.name());
    }
}

#[test]
fn the_document_names_the_version() {
    let part = part("## At rest: the archive");
    assert!(part.contains(&format!("version {SCHEMA_VERSION} of this schema")));
}
