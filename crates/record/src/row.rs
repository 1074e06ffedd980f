//! Rows of evidence: who was served what, in bytes of a fixed form.
//!
//! `docs/evidence-format.md` describes every byte, and a test holds it against this file. A row's
//! sequence number in its stream, and the instant at which it was written, are the stream's.
//!
//! Never here: a raw identifier. Whose, whom and what are tags; only an operator's own words (classes,
//! pages, reasons) stand as text.
//!
//! Invariant: what was written in a version is read in that version for ever. A change of meaning is a
//! new version of the row, with a reader of its own beside the old one's.

use crate::digest::{Digest, RulesDigest};
use crate::{
    AddressTag, CookieTag, Epoch, FillId, GrantId, MemberTag, Mode, TargetTag, UnixMillis,
    ViewerTag,
};

/// The version in which rows are written.
pub const ROW_VERSION: u8 = 1;

/// The length of a row's text at most; what is longer is cut.
pub const ROW_TEXT_BYTES_MAX: usize = 64;

/// How many cookies' tags a row holds at most; all of them are counted.
pub const ROW_COOKIES_MAX: usize = 32;

/// The length of a begin row at most.
pub const BEGIN_BYTES_MAX: usize =
    2 + 1 + 8 + 1 + 2 + 16 * 7 + 4 * (1 + ROW_TEXT_BYTES_MAX) + 3 + 16 * ROW_COOKIES_MAX;

/// The length of an end row.
pub const END_BYTES: usize = 2 + 8 + 1 + 8;

/// The most that a link row's bytes take.
pub const LINK_BYTES_MAX: usize = 2 + 1 + 16 + 1 + 16 + 8;

/// The length of a stance row.
pub const STANCE_BYTES: usize = 2 + 1 + 32 + 8 + 8;

/// One row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Row<'a> {
    /// A response began.
    Begin(Begin<'a>),
    /// A response ended.
    End(End),
    /// A session came to be a member's, or ceased to be.
    Link(Link),
    /// Responses without rows.
    Gap(Gap),
    /// What the rows after it were served under.
    Stance(StanceRow),
}

/// A response that held bytes of an origin or of the store. Written before the first of them left, and
/// served under the last [`StanceRow`] before it in its segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begin<'a> {
    /// When its request's head had been read.
    pub began: UnixMillis,
    /// Where it came from.
    pub outcome: Outcome,
    /// Why from there: the reason's name; empty where the outcome says all.
    pub reason: &'a str,
    /// The status that the client saw.
    pub status: u16,
    /// The method, where it is one of HTTP's own; `other` otherwise.
    pub method: &'a str,
    /// The class that claimed it; `personal` when none did.
    pub class: &'a str,
    /// Which page the origin says that it is.
    pub page: Option<&'a str>,
    /// The full target.
    pub target: TargetTag,
    /// Where the client connected from.
    pub address: AddressTag,
    /// The session's credentials; `None` when the request showed none.
    pub viewer: Option<ViewerTag>,
    /// Whom the origin believed that it served.
    pub viewer_member: Option<MemberTag>,
    /// Whose data the origin says that it is.
    pub owner: Option<MemberTag>,
    /// The fetch that its bytes came with, where it was a shared one.
    pub fill: Option<FillId>,
    /// The preview grant under which it was shown, though the gate was closed.
    pub grant: Option<GrantId>,
    /// The cookies that it set: the first [`ROW_COOKIES_MAX`].
    pub cookies: Vec<CookieTag>,
    /// How many cookies it set.
    pub cookies_set: u16,
}

/// The end of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// The sequence number of its begin row, in the same stream.
    pub begin: u64,
    /// How it ended.
    pub ended: Ended,
    /// How many bytes of its body were handed to the connection: as many or fewer reached the client.
    pub bytes: u64,
}

/// A session and a member: at a login, or a logout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Whether the session came to be the member's, or ceased to be.
    pub event: LinkEvent,
    /// The session.
    pub viewer: ViewerTag,
    /// The member, where the origin named one.
    pub member: Option<MemberTag>,
    /// The sequence number of the begin row of the response that said so, in the same stream.
    pub begin: Option<u64>,
}

/// What became of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// A login.
    Started,
    /// A logout.
    Ended,
}

/// Responses that left without rows, since there was no space for any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// When the first of them began.
    pub from: UnixMillis,
    /// When the last of them began.
    pub to: UnixMillis,
    /// How many there were. All were passes: nothing that was stored left without a row.
    pub responses: u64,
}

/// What responses are served under: a begin row points to the last one before it in its segment. Each
/// segment begins with one, and one is written whenever a begin row needs another than the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StanceRow {
    /// The mode.
    pub mode: Mode,
    /// The rules.
    pub rules: RulesDigest,
    /// The epoch.
    pub epoch: Epoch,
    /// Which key the tags are made under: [`TagKey::id`](crate::TagKey::id).
    pub tag_key: u64,
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $byte:literal $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The word for it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }

            /// The byte for it.
            #[must_use]
            pub const fn byte(self) -> u8 {
                match self {
                    $(Self::$variant => $byte,)*
                }
            }

            const fn of(byte: u8) -> Result<Self, RowFault> {
                match byte {
                    $($byte => Ok(Self::$variant),)*
                    _ => Err(RowFault::Word(stringify!($name), byte)),
                }
            }
        }
    };
}

words! {
    /// Where a response came from.
    Outcome {
        /// From the store, fresh.
        Hit = 1 "hit",
        /// From the store, past freshness.
        Stale = 2 "stale",
        /// From a fill that another request led.
        Collapsed = 3 "collapsed",
        /// From a fill that this request led, and that others may be shown.
        Fill = 4 "fill",
        /// From a shared fetch that was shown to this requester alone.
        Relay = 5 "relay",
        /// From the origin, to which the request went as itself.
        Pass = 6 "pass",
        /// A connection handed through after a switch of protocols.
        Tunnel = 7 "tunnel",
    }
}

words! {
    /// How a response ended.
    Ended {
        /// All of its body was handed to the connection.
        Complete = 1 "complete",
        /// The client went away, or took no more.
        Aborted = 2 "aborted",
        /// We cut it: the mode was closed, or the node stopped.
        Cut = 3 "cut",
        /// The origin's body broke off.
        Broken = 4 "broken",
    }
}

/// The bytes for the kinds of rows.
mod kind {
    pub(super) const BEGIN: u8 = 1;
    pub(super) const END: u8 = 2;
    pub(super) const LINK: u8 = 3;
    pub(super) const GAP: u8 = 4;
    pub(super) const STANCE: u8 = 5;
}

/// The bits for what a begin row may lack.
mod has {
    pub(super) const PAGE: u8 = 1;
    pub(super) const VIEWER: u8 = 1 << 1;
    pub(super) const VIEWER_MEMBER: u8 = 1 << 2;
    pub(super) const OWNER: u8 = 1 << 3;
    pub(super) const FILL: u8 = 1 << 4;
    pub(super) const GRANT: u8 = 1 << 5;
    pub(super) const COOKIES: u8 = 1 << 6;
    pub(super) const ALL: u8 = (1 << 7) - 1;
}

/// Why bytes are no row that this program reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowFault {
    /// They end within it.
    Short,
    /// There are more of them.
    Long,
    /// Of a kind that this program does not know.
    Kind(u8),
    /// Of a version that this program does not read.
    Version(u8),
    /// A byte that stands for no word of its list.
    Word(&'static str, u8),
    /// A text that is none, or too long.
    Text,
}

impl std::fmt::Display for RowFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Short => f.write_str("the row ends too early"),
            Self::Long => f.write_str("there are bytes after the row"),
            Self::Kind(byte) => write!(f, "this program knows no kind {byte} of rows"),
            Self::Version(byte) => {
                write!(
                    f,
                    "the row has version {byte}; this program reads version {ROW_VERSION}"
                )
            }
            Self::Word(list, byte) => write!(f, "{byte} stands for nothing as {list}"),
            Self::Text => f.write_str("a text in the row is none, or too long"),
        }
    }
}

impl std::error::Error for RowFault {}

impl<'a> Row<'a> {
    /// Adds the row's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Begin(begin) => begin.encode(out),
            Self::End(end) => end.encode(out),
            Self::Link(link) => link.encode(out),
            Self::Gap(gap) => gap.encode(out),
            Self::Stance(stance) => stance.encode(out),
        }
    }

    /// Reads a row.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, RowFault> {
        let mut rest = Rest(bytes);
        let [kind, version] = rest.array()?;
        let known = (kind::BEGIN..=kind::STANCE).contains(&kind);
        if !known {
            return Err(RowFault::Kind(kind));
        }
        if version != ROW_VERSION {
            return Err(RowFault::Version(version));
        }
        let row = match kind {
            kind::BEGIN => Self::Begin(Begin::decode(&mut rest)?),
            kind::END => Self::End(End::decode(&mut rest)?),
            kind::LINK => Self::Link(Link::decode(&mut rest)?),
            kind::GAP => Self::Gap(Gap::decode(&mut rest)?),
            _ => Self::Stance(StanceRow::decode(&mut rest)?),
        };
        if rest.0.is_empty() {
            Ok(row)
        } else {
            Err(RowFault::Long)
        }
    }
}

impl<'a> Begin<'a> {
    /// Whether the response is an interim one (RFC 9110 15.2), which the final one follows. The head with
    /// which protocols are switched is none.
    #[must_use]
    pub fn is_interim(&self) -> bool {
        self.status < 200 && self.outcome != Outcome::Tunnel
    }

    /// Adds the row's bytes: at most [`BEGIN_BYTES_MAX`].
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        let mut flags = 0;
        let mut flag = |bit, is_set: bool| flags |= if is_set { bit } else { 0 };
        flag(has::PAGE, self.page.is_some());
        flag(has::VIEWER, self.viewer.is_some());
        flag(has::VIEWER_MEMBER, self.viewer_member.is_some());
        flag(has::OWNER, self.owner.is_some());
        flag(has::FILL, self.fill.is_some());
        flag(has::GRANT, self.grant.is_some());
        flag(has::COOKIES, self.cookies_set > 0);
        out.extend_from_slice(&[kind::BEGIN, ROW_VERSION, flags]);
        out.extend_from_slice(&self.began.0.to_le_bytes());
        out.push(self.outcome.byte());
        out.extend_from_slice(&self.status.to_le_bytes());
        out.extend_from_slice(&self.target.0);
        out.extend_from_slice(&self.address.0);
        text(out, self.reason);
        text(out, self.method);
        text(out, self.class);
        if let Some(page) = self.page {
            text(out, page);
        }
        let tags = [
            self.viewer.map(|tag| tag.0),
            self.viewer_member.map(|tag| tag.0),
            self.owner.map(|tag| tag.0),
            self.fill.map(|id| id.0.to_be_bytes()),
            self.grant.map(|id| id.0.to_be_bytes()),
        ];
        for tag in tags.iter().flatten() {
            out.extend_from_slice(tag);
        }
        if self.cookies_set > 0 {
            let held = &self.cookies[..self.cookies.len().min(ROW_COOKIES_MAX)];
            out.extend_from_slice(&self.cookies_set.to_le_bytes());
            out.push(u8::try_from(held.len()).expect("it is bounded"));
            for tag in held {
                out.extend_from_slice(&tag.0);
            }
        }
        assert!(
            out.len() - start <= BEGIN_BYTES_MAX,
            "a begin row is bounded"
        );
    }

    fn decode(rest: &mut Rest<'a>) -> Result<Self, RowFault> {
        let [flags] = rest.array()?;
        if flags & !has::ALL != 0 {
            return Err(RowFault::Word("flags", flags));
        }
        let has = |bit| flags & bit != 0;
        let mut row = Self {
            began: UnixMillis(rest.number()?),
            outcome: Outcome::of(rest.byte()?)?,
            status: u16::from_le_bytes(rest.array()?),
            target: TargetTag(rest.array()?),
            address: AddressTag(rest.array()?),
            reason: rest.text()?,
            method: rest.text()?,
            class: rest.text()?,
            page: rest.when(has(has::PAGE), Rest::text)?,
            viewer: rest.when(has(has::VIEWER), Rest::array)?.map(ViewerTag),
            viewer_member: rest
                .when(has(has::VIEWER_MEMBER), Rest::array)?
                .map(MemberTag),
            owner: rest.when(has(has::OWNER), Rest::array)?.map(MemberTag),
            fill: rest
                .when(has(has::FILL), Rest::array)?
                .map(|id| FillId(u128::from_be_bytes(id))),
            grant: rest
                .when(has(has::GRANT), Rest::array)?
                .map(|id| GrantId(u128::from_be_bytes(id))),
            cookies: Vec::new(),
            cookies_set: 0,
        };
        if has(has::COOKIES) {
            row.cookies_set = u16::from_le_bytes(rest.array()?);
            let held = rest.byte()?;
            let fits = usize::from(held) <= ROW_COOKIES_MAX && u16::from(held) <= row.cookies_set;
            if row.cookies_set == 0 || !fits {
                return Err(RowFault::Word("cookies", held));
            }
            for _ in 0..held {
                row.cookies.push(CookieTag(rest.array()?));
            }
        }
        Ok(row)
    }
}

impl End {
    /// Adds the row's bytes: [`END_BYTES`].
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[kind::END, ROW_VERSION]);
        out.extend_from_slice(&self.begin.to_le_bytes());
        out.push(self.ended.byte());
        out.extend_from_slice(&self.bytes.to_le_bytes());
    }

    fn decode(rest: &mut Rest<'_>) -> Result<Self, RowFault> {
        Ok(Self {
            begin: rest.number()?,
            ended: Ended::of(rest.byte()?)?,
            bytes: rest.number()?,
        })
    }
}

impl Link {
    /// Adds the row's bytes: at most [`LINK_BYTES_MAX`].
    pub fn encode(&self, out: &mut Vec<u8>) {
        let event = match self.event {
            LinkEvent::Started => 1,
            LinkEvent::Ended => 2,
        };
        out.extend_from_slice(&[kind::LINK, ROW_VERSION, event]);
        out.extend_from_slice(&self.viewer.0);
        out.push(u8::from(self.member.is_some()) | u8::from(self.begin.is_some()) << 1);
        if let Some(member) = self.member {
            out.extend_from_slice(&member.0);
        }
        if let Some(begin) = self.begin {
            out.extend_from_slice(&begin.to_le_bytes());
        }
    }

    fn decode(rest: &mut Rest<'_>) -> Result<Self, RowFault> {
        let event = match rest.byte()? {
            1 => LinkEvent::Started,
            2 => LinkEvent::Ended,
            byte => return Err(RowFault::Word("event", byte)),
        };
        let viewer = ViewerTag(rest.array()?);
        let flags = rest.byte()?;
        if flags > 3 {
            return Err(RowFault::Word("flags", flags));
        }
        Ok(Self {
            event,
            viewer,
            member: rest.when(flags & 1 != 0, Rest::array)?.map(MemberTag),
            begin: rest.when(flags & 2 != 0, Rest::number)?,
        })
    }
}

impl Gap {
    /// Adds the row's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[kind::GAP, ROW_VERSION]);
        for number in [self.from.0, self.to.0, self.responses] {
            out.extend_from_slice(&number.to_le_bytes());
        }
    }

    fn decode(rest: &mut Rest<'_>) -> Result<Self, RowFault> {
        Ok(Self {
            from: UnixMillis(rest.number()?),
            to: UnixMillis(rest.number()?),
            responses: rest.number()?,
        })
    }
}

impl StanceRow {
    /// Adds the row's bytes: [`STANCE_BYTES`].
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[kind::STANCE, ROW_VERSION, mode_byte(self.mode)]);
        out.extend_from_slice(self.rules.0.as_bytes());
        out.extend_from_slice(&self.epoch.0.to_le_bytes());
        out.extend_from_slice(&self.tag_key.to_le_bytes());
    }

    fn decode(rest: &mut Rest<'_>) -> Result<Self, RowFault> {
        let mode = rest.byte()?;
        let found = Mode::ALL
            .into_iter()
            .find(|known| mode_byte(*known) == mode);
        Ok(Self {
            mode: found.ok_or(RowFault::Word("mode", mode))?,
            rules: RulesDigest(Digest::from_bytes(rest.array()?)),
            epoch: Epoch(rest.number()?),
            tag_key: rest.number()?,
        })
    }
}

const fn mode_byte(mode: Mode) -> u8 {
    match mode {
        Mode::Closed => 1,
        Mode::Pass => 2,
        Mode::Static => 3,
        Mode::Open => 4,
    }
}

/// Adds a text with its length, cut where it is too long.
fn text(out: &mut Vec<u8>, text: &str) {
    let text = text.as_bytes();
    let mut end = text.len().min(ROW_TEXT_BYTES_MAX);
    // Not within a letter.
    while end < text.len() && text[end] & 0xc0 == 0x80 {
        end -= 1;
    }
    out.push(u8::try_from(end).expect("it is bounded"));
    out.extend_from_slice(&text[..end]);
}

/// What is still to be read.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], RowFault> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(RowFault::Short)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn byte(&mut self) -> Result<u8, RowFault> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    fn number(&mut self) -> Result<u64, RowFault> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn text(&mut self) -> Result<&'a str, RowFault> {
        let length = usize::from(self.byte()?);
        let (text, rest) = self.0.split_at_checked(length).ok_or(RowFault::Short)?;
        self.0 = rest;
        if length > ROW_TEXT_BYTES_MAX {
            return Err(RowFault::Text);
        }
        str::from_utf8(text).map_err(|_| RowFault::Text)
    }

    fn when<T>(
        &mut self,
        is_there: bool,
        read: impl FnOnce(&mut Self) -> Result<T, RowFault>,
    ) -> Result<Option<T>, RowFault> {
        is_there.then(|| read(self)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin() -> Begin<'static> {
        Begin {
            began: UnixMillis(1_800_000_000_123),
            outcome: Outcome::Hit,
            reason: "fresh",
            status: 200,
            method: "GET",
            class: "assets",
            page: Some("top"),
            target: TargetTag([1; 16]),
            address: AddressTag([2; 16]),
            viewer: Some(ViewerTag([3; 16])),
            viewer_member: Some(MemberTag([4; 16])),
            owner: Some(MemberTag([5; 16])),
            fill: Some(FillId(6)),
            grant: Some(GrantId(8)),
            cookies: vec![CookieTag([7; 16])],
            cookies_set: 2,
        }
    }

    #[test]
    fn the_head_of_a_tunnel_is_no_interim_response() {
        for (status, outcome, is_interim) in [
            (103, Outcome::Pass, true),
            (101, Outcome::Tunnel, false),
            (200, Outcome::Pass, false),
        ] {
            let begin = Begin {
                status,
                outcome,
                ..begin()
            };
            assert_eq!(begin.is_interim(), is_interim, "{status}");
        }
    }

    fn rows() -> Vec<Row<'static>> {
        let bare = Begin {
            page: None,
            viewer: None,
            viewer_member: None,
            owner: None,
            fill: None,
            grant: None,
            cookies: Vec::new(),
            cookies_set: 0,
            reason: "",
            ..begin()
        };
        vec![
            Row::Begin(begin()),
            Row::Begin(bare),
            Row::End(End {
                begin: 8,
                ended: Ended::Aborted,
                bytes: 9,
            }),
            Row::Link(Link {
                event: LinkEvent::Started,
                viewer: ViewerTag([3; 16]),
                member: Some(MemberTag([4; 16])),
                begin: Some(8),
            }),
            Row::Link(Link {
                event: LinkEvent::Ended,
                viewer: ViewerTag([3; 16]),
                member: None,
                begin: None,
            }),
            Row::Gap(Gap {
                from: UnixMillis(1),
                to: UnixMillis(2),
                responses: 3,
            }),
            Row::Stance(StanceRow {
                mode: Mode::Static,
                rules: RulesDigest(Digest::of(b"rules")),
                epoch: Epoch(4),
                tag_key: 5,
            }),
        ]
    }

    fn encoded(row: &Row<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        row.encode(&mut bytes);
        bytes
    }

    #[test]
    fn a_row_is_read_as_it_was_written_and_neither_shorter_nor_longer() {
        for row in rows() {
            let mut bytes = encoded(&row);
            assert_eq!(Row::decode(&bytes), Ok(row.clone()));
            for length in 0..bytes.len() {
                assert!(Row::decode(&bytes[..length]).is_err(), "{row:?} {length}");
            }
            bytes.push(0);
            assert_eq!(Row::decode(&bytes), Err(RowFault::Long), "{row:?}");
        }
    }

    #[test]
    fn what_is_not_known_is_told_and_not_guessed() {
        let changed = |at: usize, byte: u8| {
            let mut bytes = encoded(&Row::Begin(begin()));
            bytes[at] = byte;
            Row::decode(&bytes).map(|_| ()).unwrap_err()
        };
        assert_eq!(changed(0, 9), RowFault::Kind(9));
        assert_eq!(changed(1, 2), RowFault::Version(2));
        assert_eq!(changed(2, 0xff), RowFault::Word("flags", 0xff));
        assert_eq!(changed(11, 99), RowFault::Word("Outcome", 99));
        assert_eq!(changed(47, 0xff), RowFault::Text);
    }

    #[test]
    fn a_row_is_bounded_however_long_what_it_tells() {
        let long = "é".repeat(100);
        let row = Begin {
            reason: &long,
            method: &long,
            class: &long,
            page: Some(&long),
            cookies: vec![CookieTag([1; 16]); 100],
            cookies_set: 100,
            ..begin()
        };
        let bytes = encoded(&Row::Begin(row));
        assert!(bytes.len() <= BEGIN_BYTES_MAX);
        let Ok(Row::Begin(read)) = Row::decode(&bytes) else {
            panic!("it is a begin row");
        };
        assert_eq!(read.class, "é".repeat(32));
        assert_eq!((read.cookies.len(), read.cookies_set), (32, 100));
    }

    /// Version 1, for ever. Bytes here never change; a new version gets bytes of its own.
    #[test]
    fn version_1() {
        let hex = |row: &Row<'_>| {
            encoded(row)
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>()
        };
        let got: Vec<String> = rows().iter().map(hex).collect();
        let expected = [
            concat!(
                "01017f7b505c18a301000001c800010101010101010101010101010101010202",
                "0202020202020202020202020202056672657368034745540661737365747303746f700303030303",
                "03030303030303030303030404040404040404040404040404040405050505050505050505050505",
                "05050500000000000000000000000000000006000000000000000000000000000000080200010707",
                "0707070707070707070707070707",
            ),
            concat!(
                "0101007b505c18a301000001c800010101010101010101010101010101010202",
                "0202020202020202020202020202000347455406617373657473",
            ),
            "02010800000000000000020900000000000000",
            concat!(
                "03010103030303030303030303030303030303030404040404040404040404040404040408000000",
                "00000000",
            ),
            "0301020303030303030303030303030303030300",
            "0401010000000000000002000000000000000300000000000000",
            concat!(
                "05010351be95419f84c3396d940a401859c56eaae5e4983d50282e5cd8730e4c26cada0400000000",
                "0000000500000000000000",
            ),
        ];
        assert_eq!(got, expected);
    }
}
