//! Why something was not shared: states with names, never yes or no.
//!
//! Every refusal to share is one of these. Each has a name for machines (`Cache-Status`, evidence),
//! a sentence for people and, where there is one, a cure (`shikiri explain`).

use std::fmt;

use http::StatusCode;

/// Why a request is refused outright. Nothing of it reaches an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refused {
    /// The head is not HTTP, or has a byte that has no place there.
    MalformedHead,
    /// `Content-Length` and `Transfer-Encoding` together (RFC 9112 6.1).
    LengthAndTransferEncoding,
    /// `Content-Length` is not one number (RFC 9110 8.6).
    ContentLength,
    /// `Transfer-Encoding` is anything but exactly `chunked` (RFC 9112 6.1).
    TransferEncoding,
    /// A chunk's size, extension or end is malformed (RFC 9112 7.1).
    MalformedChunk,
    /// No `Host`, or more than one (RFC 9112 3.2).
    Host,
    /// The target's authority and `Host` differ (RFC 9112 3.2.2).
    AuthorityMismatch,
    /// The target is in no form that its method allows.
    Target,
    /// The method is `CONNECT`.
    Connect,
    /// Not HTTP/1.0 or HTTP/1.1.
    Version,
    /// An expectation other than `100-continue` (RFC 9110 10.1.1).
    Expectation,
    /// No origin answers for this host (RFC 9110 15.5.20).
    UnknownHost,
    /// The connection was made for another host: its TLS server name is not the request's (RFC 9110
    /// 7.4).
    Misdirected,
    /// The request came through this node before (RFC 8586).
    Loop,
    /// The head is larger than allowed (RFC 6585 5).
    HeadTooLarge,
    /// The target is longer than allowed.
    TargetTooLong,
    /// The body is larger than allowed.
    BodyTooLarge,
    /// The client took too long to send its head or body.
    TooSlow,
    /// More requests are being answered than allowed.
    Busy,
    /// More gates are being asked than allowed.
    GatesBusy,
    /// `only-if-cached`, and it is not (RFC 9111 5.2.1.7).
    OnlyIfCached,
    /// `Max-Forwards` has run out (RFC 9110 7.6.2).
    MaxForwards,
    /// Nothing in its URL shows that it may see what is opened by a token.
    NoToken,
    /// What stands in a token's place is none.
    TokenMalformed,
    /// The token was not made with one of the class's secrets, or not for this path.
    TokenWrong,
    /// The token's time is over.
    TokenExpired,
    /// A token stands before what no class claims that is opened by one, or what is no GET or HEAD.
    TokenNotForThis,
    /// The site is closed for maintenance.
    Closed,
    /// That it was answered could not be written down: there is no space for evidence.
    EvidenceFull,
}

impl Refused {
    /// The status of the answer.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        match self {
            Self::MalformedHead
            | Self::LengthAndTransferEncoding
            | Self::ContentLength
            | Self::TransferEncoding
            | Self::MalformedChunk
            | Self::Host
            | Self::AuthorityMismatch
            | Self::Target => StatusCode::BAD_REQUEST,
            Self::Connect | Self::MaxForwards => StatusCode::METHOD_NOT_ALLOWED,
            Self::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::Expectation => StatusCode::EXPECTATION_FAILED,
            Self::UnknownHost | Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Self::Loop => StatusCode::LOOP_DETECTED,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Busy | Self::GatesBusy | Self::Closed | Self::EvidenceFull => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::OnlyIfCached => StatusCode::GATEWAY_TIMEOUT,
            Self::NoToken
            | Self::TokenMalformed
            | Self::TokenWrong
            | Self::TokenExpired
            | Self::TokenNotForThis => StatusCode::FORBIDDEN,
        }
    }

    /// Whether the connection can go on. After a framing fault nobody knows where the next request
    /// would begin.
    #[must_use]
    pub const fn keeps_connection(self) -> bool {
        matches!(
            self,
            Self::UnknownHost
                | Self::Misdirected
                | Self::Loop
                | Self::Busy
                | Self::GatesBusy
                | Self::NoToken
                | Self::TokenMalformed
                | Self::TokenWrong
                | Self::TokenExpired
                | Self::OnlyIfCached
                | Self::MaxForwards
                | Self::Closed
                | Self::EvidenceFull
        )
    }

    /// The reason's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::MalformedHead => "malformed-head",
            Self::LengthAndTransferEncoding => "length-and-transfer-encoding",
            Self::ContentLength => "content-length",
            Self::TransferEncoding => "transfer-encoding",
            Self::MalformedChunk => "malformed-chunk",
            Self::Host => "host",
            Self::AuthorityMismatch => "authority-mismatch",
            Self::Target => "target",
            Self::Connect => "connect",
            Self::Version => "version",
            Self::Expectation => "expectation",
            Self::UnknownHost => "unknown-host",
            Self::Misdirected => "misdirected",
            Self::Loop => "loop",
            Self::HeadTooLarge => "head-too-large",
            Self::TargetTooLong => "target-too-long",
            Self::BodyTooLarge => "body-too-large",
            Self::TooSlow => "too-slow",
            Self::Busy => "busy",
            Self::GatesBusy => "gates-busy",
            Self::OnlyIfCached => "only-if-cached",
            Self::MaxForwards => "max-forwards",
            Self::NoToken => "no-token",
            Self::TokenMalformed => "token-malformed",
            Self::TokenWrong => "token-wrong",
            Self::TokenExpired => "token-expired",
            Self::TokenNotForThis => "token-not-for-this",
            Self::Closed => "closed",
            Self::EvidenceFull => "evidence-full",
        }
    }
}

/// Why a request goes to the origin as itself and its answer to its sender alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Personal {
    /// No class claims it: the default.
    NoClass,
    /// Policy declares it personal.
    Declared,
    /// Only GET and HEAD can be shared.
    Method,
    /// It has a body.
    HasBody,
    /// It asks to switch protocols (RFC 9110 7.8), with an origin that may.
    Switches,
    /// It carries credentials, and the class is for the anonymous.
    Credentials,
    /// Its path can be read in more than one way.
    AmbiguousPath,
    /// Its query can be read in more than one way.
    AmbiguousQuery,
    /// This query parameter identifies somebody.
    IdentityInQuery(String),
    /// A path segment identifies somebody.
    IdentityInPath,
    /// This query parameter looks like a token.
    TokenInQuery(String),
    /// A path segment looks like a token.
    TokenInPath,
    /// A query parameter that the class does not list.
    UnlistedQuery(String),
    /// The client asked that nothing of it be stored.
    ClientNoStore,
    /// It asks a gate whether its sender may see something.
    AsksGate,
    /// Its class's credential is not known, so that nothing of it can be fetched for all.
    NoSecret,
    /// The stored object is only for requests without this header.
    OnlyWithout(&'static str),
    /// A shared fetch for this key was refused a short while ago, for this reason.
    Remembered(&'static str),
    /// A shared fetch was made for this request, and refused.
    Refused(NotShared),
    /// While its gate was asked, what is shared changed.
    Meanwhile(NotShared),
    /// It waited for a fill that did not come to be shared, or that took too long.
    Waited(&'static str),
    /// A header that the key needs has a value that cannot be in a key.
    KeyHeader(String),
    /// The mode is `static`, and the class that claims it is none of static files.
    ModeStatic,
    /// The mode is `pass`: nothing is shared.
    ModePass,
}

impl Personal {
    /// The reason's name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::NoClass => "no-class",
            Self::Declared => "declared-personal",
            Self::Method => "method",
            Self::HasBody => "has-body",
            Self::Switches => "switches-protocol",
            Self::Credentials => "credentials",
            Self::AmbiguousPath => "ambiguous-path",
            Self::AmbiguousQuery => "ambiguous-query",
            Self::IdentityInQuery(_) => "identity-in-query",
            Self::IdentityInPath => "identity-in-path",
            Self::TokenInQuery(_) => "token-in-query",
            Self::TokenInPath => "token-in-path",
            Self::UnlistedQuery(_) => "unlisted-query",
            Self::ClientNoStore => "client-no-store",
            Self::AsksGate => "asks-gate",
            Self::NoSecret => "no-secret",
            Self::OnlyWithout(_) => "only-without",
            Self::Remembered(_) => "remembered",
            Self::Refused(why) | Self::Meanwhile(why) => why.name(),
            Self::Waited(_) => "waited",
            Self::KeyHeader(_) => "key-header",
            Self::ModeStatic => "mode-static",
            Self::ModePass => "mode-pass",
        }
    }

    /// What to change when this should be shared, if anything.
    #[must_use]
    pub fn cure(&self) -> Option<String> {
        Some(match self {
            Self::NoClass => {
                "Add a [[class]] whose `match` covers this path, if it is the same for all.".into()
            }
            Self::Credentials => {
                "List the cookies that identify a member in [session] `cookies`, or say `to = \"everyone\"` \
                 if members may see the logged-out page."
                    .into()
            }
            Self::TokenInQuery(name) => {
                format!("If `{name}` is not a secret, list it in [session] `query_public`.")
            }
            Self::UnlistedQuery(name) => {
                format!("If the page depends on `{name}`, list it in the class's `query`.")
            }
            Self::NoSecret => {
                "Put the secret into the file or variable that the class's `credential` names.".into()
            }
            Self::Refused(why) => return why.cure(),
            Self::ModeStatic => {
                "Go to `open` when the pages may be shared again; or say `static = true` in the class, if all \
                 that it matches are files that are the same for everybody."
                    .into()
            }
            Self::ModePass => {
                "Go to `static` or `open` when it is known that sharing is safe.".into()
            }
            Self::OnlyWithout(_) => {
                "The origin answered with a `Vary` on it; drop that from the origin's answer if the \
                 page does not depend on it."
                    .into()
            }
            _ => return None,
        })
    }
}

impl fmt::Display for Personal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoClass => f.write_str("no class claims it, and the default is personal"),
            Self::Declared => f.write_str("policy declares it personal"),
            Self::Method => f.write_str("only GET and HEAD can be shared"),
            Self::HasBody => f.write_str("it has a body"),
            Self::Switches => f.write_str("it asks to switch protocols"),
            Self::Credentials => {
                f.write_str("it carries credentials, and the class is for the anonymous")
            }
            Self::AmbiguousPath => f.write_str("its path can be read in more than one way"),
            Self::AmbiguousQuery => f.write_str("its query can be read in more than one way"),
            Self::IdentityInQuery(name) => {
                write!(f, "the query parameter `{name}` identifies somebody")
            }
            Self::IdentityInPath => f.write_str("a path segment identifies somebody"),
            Self::TokenInQuery(name) => {
                write!(f, "the query parameter `{name}` looks like a token")
            }
            Self::TokenInPath => f.write_str("a path segment looks like a token"),
            Self::UnlistedQuery(name) => {
                write!(f, "the class does not list the query parameter `{name}`")
            }
            Self::ClientNoStore => f.write_str("the client asked that nothing of it be stored"),
            Self::AsksGate => f.write_str("it asks a gate whether its sender may see something"),
            Self::NoSecret => f.write_str("the credential of its class is not known"),
            Self::OnlyWithout(header) => write!(
                f,
                "the stored object is only for requests without `{header}`"
            ),
            Self::Remembered(why) => write!(
                f,
                "a shared fetch for this key was refused a short while ago ({why})"
            ),
            Self::Refused(why) => why.fmt(f),
            Self::Meanwhile(why) => write!(f, "while its gate was asked: {why}"),
            Self::Waited(why) => write!(f, "it waited for a fill that was not shared ({why})"),
            Self::KeyHeader(name) => write!(f, "the value of `{name}` cannot be part of a key"),
            Self::ModeStatic => {
                f.write_str("the mode is `static`, and its class is not one of static files")
            }
            Self::ModePass => f.write_str("the mode is `pass`: nothing is shared"),
        }
    }
}

/// Why what came back from a shared fetch is not stored, nor shown to anyone but who asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotShared {
    /// `Set-Cookie` or `Set-Cookie2`.
    SetsCookie,
    /// A field forbids it: the field and the directive.
    Prohibited {
        /// The response field.
        field: &'static str,
        /// The directive, as understood.
        directive: String,
    },
    /// A field that could forbid it cannot be read; a malformed prohibition is a prohibition.
    Unreadable {
        /// The response field.
        field: &'static str,
    },
    /// `Vary: *`.
    VaryStar,
    /// `Vary` names a header that the key does not settle.
    Varies(String),
    /// `WWW-Authenticate` or `Proxy-Authenticate`.
    Authenticates,
    /// `Clear-Site-Data`.
    ClearsSiteData,
    /// `Access-Control-Allow-Origin` other than `*`, or with credentials.
    AllowsOneOrigin,
    /// The class does not declare this status.
    Status(u16),
    /// A partial response to a request that asked for no part.
    Partial,
    /// A slice that is not of the set that it was asked for: what of it differs.
    SliceDiffers {
        /// A response field, or the status or the body.
        what: &'static str,
    },
    /// No `Content-Type`.
    NoType,
    /// The class does not list this type.
    Type(String),
    /// The content is not of the type that its head says.
    Sniffed {
        /// What the head says.
        declared: String,
        /// What the bytes are.
        looks_like: &'static str,
    },
    /// A content coding that was not asked for.
    Encoding(String),
    /// Neither the origin nor the class gives it a lifetime.
    NoLifetime,
    /// It is already stale.
    AlreadyStale,
    /// Where it ends was not declared (RFC 9112 8), so it cannot be known to be whole.
    LengthUnknown,
    /// Larger than the class stores.
    TooLarge,
    /// Running fills take all the memory that they may.
    NoRoom,
    /// It ended early, or its framing broke.
    Incomplete,
    /// Two anonymous copies differ in what looks like a token: where.
    MintsToken {
        /// The element, attribute or header.
        place: String,
    },
    /// A nonce of a content security policy.
    CarriesNonce,
    /// A session id in a link or form.
    SessionInUrl {
        /// The parameter or path part.
        place: String,
    },
    /// Two anonymous copies differ: the first differing byte, and some of the text before it.
    CopiesDiffer {
        /// Offset in the first copy, in bytes.
        at: u64,
        /// The text just before.
        after: String,
    },
    /// The second copy could not be had.
    NoSecondCopy,
    /// It is identified as one member's: the origin names a viewer or an owner.
    Owned {
        /// The response field.
        field: &'static str,
    },
    /// A `304` that answers nothing we asked, or that does not fit what is stored.
    NotModifiedUnasked,
    /// A purge, or an invalidation, came after the fill had begun.
    PurgedMeanwhile,
    /// The rules changed while the fill ran.
    RulesChanged,
    /// The mode was lowered while the fill ran.
    ModeLowered,
    /// The origin could not be asked.
    OriginFailed,
}

impl NotShared {
    /// The reason's name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::SetsCookie => "sets-cookie",
            Self::Prohibited { .. } => "prohibited",
            Self::Unreadable { .. } => "unreadable",
            Self::VaryStar => "vary-star",
            Self::Varies(_) => "varies",
            Self::Authenticates => "authenticates",
            Self::ClearsSiteData => "clears-site-data",
            Self::AllowsOneOrigin => "allows-one-origin",
            Self::Status(_) => "status",
            Self::Partial => "partial",
            Self::SliceDiffers { .. } => "slice-differs",
            Self::NoType => "no-type",
            Self::Type(_) => "type",
            Self::Sniffed { .. } => "sniffed",
            Self::Encoding(_) => "encoding",
            Self::NoLifetime => "no-lifetime",
            Self::AlreadyStale => "already-stale",
            Self::LengthUnknown => "length-unknown",
            Self::TooLarge => "too-large",
            Self::NoRoom => "no-room",
            Self::Incomplete => "incomplete",
            Self::MintsToken { .. } => "mints-token",
            Self::CarriesNonce => "carries-nonce",
            Self::SessionInUrl { .. } => "session-in-url",
            Self::CopiesDiffer { .. } => "copies-differ",
            Self::NoSecondCopy => "no-second-copy",
            Self::Owned { .. } => "owned",
            Self::NotModifiedUnasked => "not-modified-unasked",
            Self::PurgedMeanwhile => "purged-meanwhile",
            Self::RulesChanged => "rules-changed",
            Self::ModeLowered => "mode-lowered",
            Self::OriginFailed => "origin-failed",
        }
    }

    /// Whether the origin forbade sharing, so that what is stored under the key dies too.
    ///
    /// A failing or merely unsuitable answer says nothing about older ones; an answer that says
    /// "this is not for everyone" does.
    #[must_use]
    pub const fn prohibits(&self) -> bool {
        matches!(
            self,
            Self::SetsCookie
                | Self::Prohibited { .. }
                | Self::Unreadable { .. }
                | Self::VaryStar
                | Self::Varies(_)
                | Self::Authenticates
                | Self::ClearsSiteData
                | Self::AllowsOneOrigin
                | Self::MintsToken { .. }
                | Self::CarriesNonce
                | Self::SessionInUrl { .. }
                | Self::Owned { .. }
        )
    }

    /// Whether the key is worth remembering as a pass: asking again soon would give the same answer.
    #[must_use]
    pub const fn is_lasting(&self) -> bool {
        !matches!(
            self,
            // A failing origin must not be met by everybody at once.
            Self::Status(429 | 500..)
                | Self::NoRoom
                | Self::SliceDiffers { .. }
                | Self::Incomplete
                | Self::NoSecondCopy
                | Self::PurgedMeanwhile
                | Self::RulesChanged
                | Self::ModeLowered
                | Self::OriginFailed
        )
    }

    /// What to change when this should be shared, if anything.
    #[must_use]
    pub fn cure(&self) -> Option<String> {
        Some(match self {
            Self::SetsCookie => {
                "Do not set a cookie on this path: a stored cookie would be handed to everyone."
                    .into()
            }
            Self::Prohibited { field, directive } => {
                format!(
                    "The origin forbids it: remove `{directive}` from `{field}` there if the response is the same for all."
                )
            }
            Self::Unreadable { field } => format!(
                "Mend `{field}` at the origin: it cannot be read, and is taken as a prohibition."
            ),
            Self::VaryStar => "Remove `Vary: *` at the origin.".into(),
            Self::Varies(header) => {
                format!(
                    "List `{header}` in the class's `key_headers` if few values of it occur, or drop it from the origin's `Vary`."
                )
            }
            Self::AllowsOneOrigin => {
                "Answer `Access-Control-Allow-Origin: *` without credentials.".into()
            }
            Self::Status(status @ (429 | 500..)) => {
                format!(
                    "The origin failed with {status}: mend that first. Failures are not worth storing."
                )
            }
            Self::Status(status) => format!("Add {status} to the class's `statuses`."),
            Self::NoType => "Send a `Content-Type`.".into(),
            Self::Type(essence) => format!("Add `{essence}` to the class's `types`."),
            Self::Sniffed { declared, .. } => {
                format!("Send the right `Content-Type` instead of `{declared}`.")
            }
            Self::NoLifetime | Self::AlreadyStale => {
                "Send `Cache-Control: max-age=…`, or give the class a `lifetime.default`.".into()
            }
            Self::LengthUnknown => "Send `Content-Length` or chunks.".into(),
            Self::TooLarge => "Raise the class's `object_bytes_max`.".into(),
            Self::MintsToken { place } => {
                format!(
                    "Fetch the token at `{place}` by a request of its own, or guard forms by `Origin` and `Sec-Fetch-Site`."
                )
            }
            Self::CarriesNonce => {
                "Use hashes instead of a nonce in `Content-Security-Policy` on shared pages.".into()
            }
            Self::SessionInUrl { .. } => "Keep the session in a cookie, not in links.".into(),
            Self::CopiesDiffer { after, .. } => {
                format!(
                    "Remove what differs after `{after}`, or declare the span in the class's `volatile`."
                )
            }
            Self::SliceDiffers { what } => {
                format!(
                    "It changed while it was fetched, or the origin's `{what}` does not fit what it sent before. \
                     Give every version an entity tag of its own, and answer `If-Match` and `Range`."
                )
            }
            Self::Owned { field } => {
                format!("The origin names a member in `{field}`: do not share this path.")
            }
            Self::Authenticates
            | Self::ClearsSiteData
            | Self::Partial
            | Self::Encoding(_)
            | Self::NoRoom
            | Self::Incomplete
            | Self::NoSecondCopy
            | Self::NotModifiedUnasked
            | Self::PurgedMeanwhile
            | Self::RulesChanged
            | Self::ModeLowered
            | Self::OriginFailed => return None,
        })
    }
}

impl fmt::Display for NotShared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SetsCookie => f.write_str("it sets a cookie"),
            Self::Prohibited { field, directive } => {
                write!(f, "the origin forbids it (`{field}: {directive}`)")
            }
            Self::Unreadable { field } => {
                write!(f, "`{field}` cannot be read, which counts as a prohibition")
            }
            Self::VaryStar => f.write_str("`Vary: *`"),
            Self::Varies(header) => {
                write!(f, "it varies on `{header}`, which the key does not settle")
            }
            Self::Authenticates => f.write_str("it asks for authentication"),
            Self::ClearsSiteData => f.write_str("it clears site data"),
            Self::AllowsOneOrigin => f.write_str("it allows one web origin, not all"),
            Self::Status(status) => write!(f, "the class does not declare the status {status}"),
            Self::Partial => f.write_str("it is partial, and no part was asked for"),
            Self::SliceDiffers { what } => {
                write!(
                    f,
                    "a slice is not of the set that it was asked for ({what})"
                )
            }
            Self::NoType => f.write_str("it has no content type"),
            Self::Type(essence) => write!(f, "the class does not list the type `{essence}`"),
            Self::Sniffed {
                declared,
                looks_like,
            } => {
                write!(
                    f,
                    "its head says `{declared}`, its content looks like {looks_like}"
                )
            }
            Self::Encoding(coding) => write!(f, "the content coding `{coding}` was not asked for"),
            Self::NoLifetime => f.write_str("neither the origin nor the class gives it a lifetime"),
            Self::AlreadyStale => f.write_str("it is already stale"),
            Self::LengthUnknown => f.write_str("where it ends was not declared"),
            Self::TooLarge => f.write_str("it is larger than the class stores"),
            Self::NoRoom => f.write_str("running fills take all the memory that they may"),
            Self::Incomplete => f.write_str("it ended early"),
            Self::MintsToken { place } => {
                write!(f, "two anonymous copies hold different tokens at `{place}`")
            }
            Self::CarriesNonce => f.write_str("it carries a nonce of a content security policy"),
            Self::SessionInUrl { place } => write!(f, "a link carries a session (`{place}`)"),
            Self::CopiesDiffer { at, after } => write!(
                f,
                "two anonymous copies differ at byte {at}, after `{after}`"
            ),
            Self::NoSecondCopy => f.write_str("a second anonymous copy could not be had"),
            Self::Owned { field } => write!(f, "the origin names a member in `{field}`"),
            Self::NotModifiedUnasked => f.write_str("a 304 that fits nothing that was asked"),
            Self::PurgedMeanwhile => f.write_str("it was purged while the fill ran"),
            Self::RulesChanged => f.write_str("the rules changed while the fill ran"),
            Self::ModeLowered => f.write_str("the mode was lowered while the fill ran"),
            Self::OriginFailed => f.write_str("the origin could not be asked"),
        }
    }
}
