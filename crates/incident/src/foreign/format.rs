//! The forms of logs, and how each is named.

use std::fmt;

use super::json::Mapping;
use super::template::{Dialect, Template};
use super::vsl::{Side, Vsl};
use super::w3c::W3c;
use super::{Bad, SessionIn, Values, squid};

/// How a log is written.
#[derive(Clone, Debug)]
pub struct Format(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Template(Template),
    W3c(W3c),
    Json(Mapping),
    Vsl(Vsl),
    Squid,
    Haproxy,
    Alb,
}

/// Why a form cannot be read by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormatFault {
    /// It holds no variable.
    NoVariable,
    /// Two variables stand side by side: nobody can tell where the first ends.
    NothingBetween,
    /// The directive, or a variable in it, is not whole.
    Directive,
    /// A line of the mapping is not `member = what`, or names something that is not known.
    Mapping,
    /// No form is called so.
    Name,
}

impl Format {
    /// nginx, by its `log_format`: the whole directive, or its text.
    ///
    /// # Errors
    /// What keeps lines from being read by it.
    pub fn nginx(log_format: &str) -> Result<Self, FormatFault> {
        Template::of(Dialect::Nginx, log_format).map(|it| Self(Kind::Template(it)))
    }

    /// Apache, by its `LogFormat`: the whole directive, or its text.
    ///
    /// # Errors
    /// What keeps lines from being read by it.
    pub fn apache(log_format: &str) -> Result<Self, FormatFault> {
        Template::of(Dialect::Apache, log_format).map(|it| Self(Kind::Template(it)))
    }

    /// Varnish, by the format that varnishncsa was given.
    ///
    /// # Errors
    /// What keeps lines from being read by it.
    pub fn varnish(format: &str) -> Result<Self, FormatFault> {
        Template::of(Dialect::Varnish, format).map(|it| Self(Kind::Template(it)))
    }

    /// One JSON object a line, by a mapping: `member = what`, one a line. `docs/inference.md` lists what
    /// a member can tell.
    ///
    /// # Errors
    /// What keeps lines from being read by it.
    pub fn json(mapping: &str) -> Result<Self, FormatFault> {
        Mapping::of(mapping).map(|it| Self(Kind::Json(it)))
    }

    /// An extended log (W3C) whose lines do not name their fields, as CloudFront's real-time logs: by the
    /// fields' names, in order.
    ///
    /// # Errors
    /// [`FormatFault::NoVariable`] when none of them is known.
    pub fn fields(names: &str) -> Result<Self, FormatFault> {
        let w3c = W3c::of(names);
        match w3c.tells_nothing() {
            true => Err(FormatFault::NoVariable),
            false => Ok(Self(Kind::W3c(w3c))),
        }
    }

    /// A form that needs no text, by its name.
    ///
    /// # Errors
    /// [`FormatFault::Name`] when there is none.
    pub fn named(name: &str) -> Result<Self, FormatFault> {
        Ok(Self(match name {
            "squid" | "ats" => Kind::Squid,
            "haproxy" => Kind::Haproxy,
            "alb" => Kind::Alb,
            "cloudfront" | "w3c" => Kind::W3c(W3c::default()),
            "cloudflare" => Kind::Json(Mapping::cloudflare()),
            "akamai" => Kind::Json(Mapping::akamai()),
            "google" => Kind::Json(Mapping::google()),
            "fastly" => Kind::Json(Mapping::fastly()),
            "vsl" => Kind::Vsl(Vsl::of(Side::Client)),
            "vsl-fetches" => Kind::Vsl(Vsl::of(Side::Backend)),
            _ => return Err(FormatFault::Name),
        }))
    }

    /// The names that [`Format::named`] knows.
    pub const NAMES: [&'static str; 12] = [
        "squid",
        "ats",
        "haproxy",
        "alb",
        "cloudfront",
        "w3c",
        "cloudflare",
        "akamai",
        "google",
        "fastly",
        "vsl",
        "vsl-fetches",
    ];

    pub(super) fn values<'a>(
        &mut self,
        line: &'a [u8],
        session: &SessionIn,
    ) -> Result<Option<Values<'a>>, Bad> {
        match &mut self.0 {
            Kind::Template(template) => template.values(line, session).map(Some),
            Kind::W3c(w3c) => w3c.values(line, session),
            Kind::Json(mapping) => mapping.values(line, session).map(Some),
            Kind::Vsl(vsl) => vsl.values(line, session),
            Kind::Squid => squid::squid(line, session).map(Some),
            Kind::Haproxy => squid::haproxy(line, session).map(Some),
            Kind::Alb => squid::alb(line).map(Some),
        }
    }
}

impl fmt::Display for FormatFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoVariable => "it names nothing that a line would tell",
            Self::NothingBetween => {
                "two variables stand side by side: nobody can tell where the first ends"
            }
            Self::Directive => "the directive, or a variable in it, is not whole",
            Self::Mapping => {
                "a line of the mapping is not `member = what`, or names what is not known"
            }
            Self::Name => "no form of a log is called so",
        })
    }
}

impl std::error::Error for FormatFault {}
