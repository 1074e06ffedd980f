//! Logs of one JSON object a line: Cloudflare's, Akamai's, Google's, and whatever a site has its cache write.
//!
//! A [`Mapping`] says which member of the object tells what; members are named by their path, `a.b.c`.

use std::borrow::Cow;

use serde_json::Value;

use super::time::Form;
use super::words::Word;
use super::{Bad, Field, FormatFault, SessionIn, Values};

/// Which member of the object tells what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mapping {
    members: Vec<(Cow<'static, str>, Field)>,
    /// Where each cookie has a member of its own, under this one.
    cookies_under: Option<&'static str>,
    /// Values are written as in a URL.
    percent: bool,
}

const MS: Field = Field::Took {
    per_second: 1000,
    step_ms: 1,
};

fn named(members: &[(&'static str, Field)]) -> Mapping {
    let members = members.iter();
    Mapping {
        members: members
            .map(|(path, field)| (Cow::Borrowed(*path), *field))
            .collect(),
        cookies_under: None,
        percent: false,
    }
}

impl Mapping {
    /// Cloudflare Logpush, `http_requests`.
    pub(super) fn cloudflare() -> Self {
        let mapping = named(&[
            ("EdgeStartTimestamp", Field::Began(Form::Any)),
            ("EdgeEndTimestamp", Field::Ended(Form::Any)),
            ("EdgeColoCode", Field::Edge),
            ("ClientIP", Field::Address),
            ("ClientRequestMethod", Field::Method),
            ("ClientRequestHost", Field::Host),
            ("ClientRequestURI", Field::Target),
            ("ClientRequestUserAgent", Field::Agent),
            ("EdgeResponseStatus", Field::Status),
            ("CacheCacheStatus", Field::Word(Word::Cloudflare)),
            ("RayID", Field::RequestId),
            ("RequestHeaders.cookie", Field::Cookies),
            ("ResponseHeaders.age", Field::Age),
            ("ResponseHeaders.etag", Field::Etag),
            ("ResponseHeaders.set-cookie", Field::SetCookie),
        ]);
        Self {
            cookies_under: Some("Cookies"),
            ..mapping
        }
    }

    /// Akamai DataStream 2.
    pub(super) fn akamai() -> Self {
        let mapping = named(&[
            ("reqTimeSec", Field::Began(Form::Unix(1))),
            ("reqEndTimeMSec", Field::TookPart),
            ("turnAroundTimeMSec", Field::TookPart),
            ("transferTimeMSec", Field::TookPart),
            ("edgeIP", Field::Edge),
            ("cliIP", Field::Address),
            ("reqMethod", Field::Method),
            ("reqHost", Field::Host),
            ("reqPath", Field::Path),
            ("queryStr", Field::Query),
            ("UA", Field::Agent),
            ("cookie", Field::Cookies),
            ("statusCode", Field::Status),
            ("cacheStatus", Field::Word(Word::Akamai)),
            ("reqId", Field::RequestId),
        ]);
        Self {
            percent: true,
            ..mapping
        }
    }

    /// Google's load balancer with Cloud CDN, and Media CDN.
    pub(super) fn google() -> Self {
        named(&[
            ("timestamp", Field::Began(Form::Iso)),
            (
                "httpRequest.latency",
                Field::Took {
                    per_second: 1,
                    step_ms: 1,
                },
            ),
            ("httpRequest.requestMethod", Field::Method),
            ("httpRequest.requestUrl", Field::Url),
            ("httpRequest.status", Field::Status),
            ("httpRequest.remoteIp", Field::Address),
            ("httpRequest.userAgent", Field::Agent),
            ("httpRequest.cacheHit", Field::Word(Word::Google)),
            (
                "httpRequest.cacheValidatedWithOriginServer",
                Field::Validated,
            ),
            ("jsonPayload.cacheId", Field::Edge),
        ])
    }

    /// Fastly, as its own examples name the members: what `fastly_info.state` and others say.
    pub(super) fn fastly() -> Self {
        named(&[
            ("timestamp", Field::Began(Form::Iso)),
            ("time_start", Field::Began(Form::Iso)),
            ("time_start_msec", Field::Began(Form::Unix(1000))),
            ("time_end_msec", Field::Ended(Form::Unix(1000))),
            (
                "time_elapsed",
                Field::Took {
                    per_second: 1_000_000,
                    step_ms: 1,
                },
            ),
            ("client_ip", Field::Address),
            ("host", Field::Host),
            ("url", Field::Target),
            ("request_method", Field::Method),
            ("request_user_agent", Field::Agent),
            ("request_cookie", Field::Cookies),
            ("response_status", Field::Status),
            ("response_age", Field::Age),
            ("response_etag", Field::Etag),
            ("response_set_cookie", Field::SetCookie),
            ("fastly_server", Field::Edge),
            ("fastly_state", Field::Word(Word::Fastly)),
            ("cache_status", Field::Word(Word::Fastly)),
            ("request_id", Field::RequestId),
        ])
    }

    /// A mapping as text: `member = what`, one a line.
    pub(super) fn of(text: &str) -> Result<Self, FormatFault> {
        let mut mapping = named(&[]);
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (member, what) = line.split_once('=').ok_or(FormatFault::Mapping)?;
            let field = by_name(what.trim()).ok_or(FormatFault::Mapping)?;
            let member = member.trim().to_owned();
            mapping.members.push((Cow::Owned(member), field));
        }
        if mapping.members.is_empty() {
            return Err(FormatFault::NoVariable);
        }
        Ok(mapping)
    }

    pub(super) fn values<'a>(&self, line: &[u8], session: &SessionIn) -> Result<Values<'a>, Bad> {
        let object: Value = serde_json::from_slice(line).map_err(|_| Bad::Form)?;
        if !object.is_object() {
            return Err(Bad::Form);
        }
        let mut values = Vec::with_capacity(self.members.len());
        let mut tell = |field: Field, value: &Value| {
            let text = match value {
                Value::Null => String::new(),
                Value::String(text) => text.clone(),
                Value::Bool(_) | Value::Number(_) => value.to_string(),
                Value::Array(_) | Value::Object(_) => return,
            };
            // A duration may be told with its unit.
            let text = match field {
                Field::Took { .. } => text.trim_end_matches('s').to_owned(),
                _ => text,
            };
            let bytes = match self.percent {
                true => super::w3c::percent_decoded(text.as_bytes()),
                false => text.into_bytes(),
            };
            values.push((field, Cow::Owned(bytes)));
        };
        for (path, field) in &self.members {
            match member(&object, path) {
                Some(value) => tell(*field, value),
                // What is false is left out.
                None if *field == Field::Word(Word::Google) => tell(*field, &Value::Bool(false)),
                None => {}
            }
        }
        if let (Some(under), SessionIn::Cookie(name)) = (self.cookies_under, session)
            && let Some(Value::Object(cookies)) = object.get(under)
        {
            tell(Field::Cookie, cookies.get(name).unwrap_or(&Value::Null));
        }
        if let SessionIn::Field(path) | SessionIn::Member(path) = session {
            tell(Field::Cookie, member(&object, path).unwrap_or(&Value::Null));
        }
        Ok(values)
    }
}

fn member<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    // A name may have dots of its own.
    if let Some(found) = object.get(path) {
        return Some(found);
    }
    path.split('.').try_fold(object, |at, name| at.get(name))
}

fn by_name(what: &str) -> Option<Field> {
    Some(match what {
        "ended" => Field::Ended(Form::Any),
        "began" => Field::Began(Form::Any),
        "took_s" => Field::Took {
            per_second: 1,
            step_ms: 1,
        },
        "took_ms" => MS,
        "took_us" => Field::Took {
            per_second: 1_000_000,
            step_ms: 1,
        },
        "request" => Field::RequestLine,
        "method" => Field::Method,
        "target" => Field::Target,
        "path" => Field::Path,
        "query" => Field::Query,
        "url" => Field::Url,
        "host" => Field::Host,
        "status" => Field::Status,
        "age" => Field::Age,
        "edge" => Field::Edge,
        "request_id" => Field::RequestId,
        "fill" => Field::Fill,
        "cookies" => Field::Cookies,
        "session" => Field::Cookie,
        "set_cookie" => Field::SetCookie,
        "address" => Field::Address,
        "agent" => Field::Agent,
        "etag" => Field::Etag,
        "cache:nginx" => Field::Word(Word::Nginx),
        "cache:varnish" => Field::Word(Word::Varnish),
        "cache:apache" => Field::Word(Word::Apache),
        "cache:squid" => Field::Word(Word::Squid),
        "cache:cloudfront" => Field::Word(Word::CloudFront),
        "cache:cloudflare" => Field::Word(Word::Cloudflare),
        "cache:fastly" => Field::Word(Word::Fastly),
        "cache:akamai" => Field::Word(Word::Akamai),
        _ => return None,
    })
}
