//! Which headers belong to a hop, to a credential, to us, or to the page.
//!
//! Closed lists, in one place: what may be in a key, what leaves with a shared copy, what is
//! stripped from a pass.

use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_RANGE, COOKIE, EXPECT, HOST,
    PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::{HeaderMap, HeaderName};

use crate::{labels, mint};

pub(crate) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(crate) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(crate) const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
pub(crate) const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
pub(crate) const CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");
pub(crate) const CDN_LOOP: HeaderName = HeaderName::from_static("cdn-loop");
pub(crate) const CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");

/// The elements of a comma-separated list field (RFC 9110 5.6.1), trimmed, without empty ones.
/// Values that are not ASCII give no elements.
pub(crate) fn tokens<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|element| element.trim_matches([' ', '\t']))
        .filter(|element| !element.is_empty())
}

/// Removes what belongs to one hop (RFC 9110 7.6.1), with all that `Connection` names.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = tokens(headers, &CONNECTION)
        .filter_map(|token| token.parse().ok())
        .collect();
    for name in named {
        // A sender cannot make us drop what says where the message goes, how it is to be read, or that
        // it is private.
        if !matches!(
            name.as_str(),
            "host"
                | "location"
                | "etag"
                | "last-modified"
                | "x-content-type-options"
                | "x-frame-options"
                | "cache-control"
                | "set-cookie"
                | "cookie"
                | "authorization"
                | "date"
                | "cdn-cache-control"
                | "surrogate-control"
                | "vary"
                | "age"
                | "expires"
        ) && !name.as_str().starts_with("content-")
        {
            headers.remove(name);
        }
    }
    // `Trailer` stays: it announces what follows the body, on every hop (RFC 9110 6.6.2).
    for name in [
        CONNECTION,
        TE,
        TRANSFER_ENCODING,
        UPGRADE,
        PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION,
    ] {
        headers.remove(name);
    }
    headers.remove("keep-alive");
    headers.remove("proxy-connection");
    headers.remove("proxy-authentication-info");
    headers.remove("http2-settings");
}

/// A header's name as gateways know it that turn names into variables (CGI, WSGI): they take
/// `X_Forwarded_For` for `X-Forwarded-For`.
pub(crate) fn folded(name: &HeaderName) -> HeaderName {
    let folded = name.as_str().replace('_', "-");
    folded.parse().unwrap_or_else(|_| name.clone())
}

/// Whether such a gateway takes two names for one.
pub(crate) fn is_alike(one: &HeaderName, other: &HeaderName) -> bool {
    let fold = |byte| if byte == b'_' { b'-' } else { byte };
    let (one, other) = (one.as_str().bytes(), other.as_str().bytes());
    one.map(fold).eq(other.map(fold))
}

/// Request headers that only a trusted hop before us may set. Removed from every other client.
pub(crate) fn is_hop_claim(name: &HeaderName) -> bool {
    let name = folded(name);
    let name = name.as_str();
    name == "forwarded"
        || name.starts_with("x-forwarded-")
        || name == "x-real-ip"
        || name.starts_with("client-cert")
        || name.starts_with("shikiri-")
        || matches!(
            name,
            "true-client-ip"
                | "cf-connecting-ip"
                | "fastly-client-ip"
                | "x-client-ip"
                | "x-cluster-client-ip"
        )
}

/// Whether some servers take a request header for the method, target or site that was asked for, in place
/// of the request line's and `Host` (Symfony and IIS: `X-Original-URL`; Rails and others:
/// `X-HTTP-Method-Override`, `X-Forwarded-Host`). Who could send one to a gate would have it asked about
/// one thing and be shown another. What the edge says itself it says anew.
pub(crate) fn names_another_target(name: &HeaderName) -> bool {
    let name = folded(name);
    let name = name.as_str();
    ["original", "rewrite", "override"]
        .iter()
        .any(|word| name.contains(word))
        || [
            "-uri",
            "-url",
            "-path",
            "-method",
            "-host",
            "-server",
            "-prefix",
            "-port",
            "-proto",
            "-protocol",
            "-scheme",
            "-ssl",
            "-https",
        ]
        .iter()
        .any(|end| name.ends_with(end))
        || name == "forwarded"
}

/// Whether a request header is a credential by its name.
pub(crate) fn is_credential(name: &HeaderName) -> bool {
    *name == COOKIE
        || *name == AUTHORIZATION
        || *name == PROXY_AUTHORIZATION
        || name.as_str() == "cookie2"
        || name.as_str().starts_with("client-cert")
}

/// Whether a request header says nothing that tells one viewer from another who uses the same kind of
/// browser: whatever is not listed here may be a credential by another name.
pub(crate) fn says_nothing_of_its_sender(name: &HeaderName) -> bool {
    let name = name.as_str();
    matches!(
        name,
        "host"
            | "accept"
            | "accept-charset"
            | "accept-encoding"
            | "accept-language"
            | "user-agent"
            | "range"
            | "if-match"
            | "if-none-match"
            | "if-modified-since"
            | "if-unmodified-since"
            | "if-range"
            | "cache-control"
            | "pragma"
            | "connection"
            | "keep-alive"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "upgrade-insecure-requests"
            | "expect"
            | "max-forwards"
            | "content-length"
            | "content-type"
            | "content-encoding"
            | "content-language"
            | "origin"
            | "priority"
            | "dnt"
            | "save-data"
            | "via"
            | "cdn-loop"
            | "x-requested-with"
            | "traceparent"
            | "tracestate"
            | "x-request-id"
            | "x-correlation-id"
            | "x-amzn-trace-id"
            | "x-cloud-trace-context"
            | "x-forwarded-proto"
            | "x-forwarded-host"
            | "x-forwarded-port"
    ) || name.starts_with("sec-fetch-")
        || name.starts_with("sec-ch-")
}

/// Whether a request header is a credential, or says by its name that it is one: `X-Api-Key`,
/// `X-Csrf-Token`. A name too many costs a class; one too few puts one person's page under a key.
pub(crate) fn names_a_credential(name: &HeaderName) -> bool {
    is_credential(name)
        || mint::names_a_token(name.as_str())
        || ["auth", "session", "secret", "password"]
            .iter()
            .any(|word| name.as_str().contains(word))
}

/// What no policy can put into a key: credentials, framing, conditions, the hop's own, what names one
/// request, and what only an attacker would want keyed.
pub(crate) fn never_in_a_key(name: &HeaderName) -> bool {
    names_a_credential(name)
        || is_hop_claim(name)
        || is_of_the_head_alone(name)
        || names_one_request(name)
}

/// Whether a request header says which request this is, or which trace it belongs to: W3C Trace Context
/// and Baggage, Zipkin's B3, and what tracers, clouds and frameworks write instead. It differs for every
/// request, or holds for a session: a copy under it would be nobody's, or one person's. As in
/// [`is_hop_claim`], an underscore is as good as a hyphen.
pub(crate) fn names_one_request(name: &HeaderName) -> bool {
    let name = name.as_str().replace('_', "-");
    let name = name.as_str();
    matches!(
        name,
        "traceparent"
            | "tracestate"
            | "traceresponse"
            | "baggage"
            | "b3"
            | "sentry-trace"
            | "newrelic"
            | "sw8"
            | "sw8-correlation"
            | "sw8-x"
            | "grpc-trace-bin"
            | "x-cloud-trace-context"
            | "x-ot-span-context"
            | "x-dynatrace"
            | "x-trace"
            | "x-request-start"
            | "x-queue-start"
            | "cf-ray"
            | "idempotency-key"
    ) || [
        "x-b3-",
        "x-datadog-",
        "uberctx-",
        "ot-tracer-",
        "ot-baggage-",
        "x-instana-",
    ]
    .iter()
    .any(|begin| name.starts_with(begin))
        || [
            "request",
            "correlation",
            "trace",
            "span",
            "transaction",
            "conversation",
        ]
        .iter()
        .any(|what| {
            let ends = |id: &str| name.strip_suffix(id).is_some_and(|n| n.ends_with(what));
            ends("-id") || ends("id")
        })
        || name.ends_with("traceparent")
        || name.ends_with("tracestate")
}

/// Request headers that frame, route or condition a message, or describe its content
/// (RFC 9110 6.5.1), and those that clients choose freely: no page may depend on them.
fn is_of_the_head_alone(name: &HeaderName) -> bool {
    [
        HOST,
        CONTENT_LENGTH,
        TRANSFER_ENCODING,
        CONNECTION,
        TE,
        TRAILER,
        UPGRADE,
        EXPECT,
        VIA,
    ]
    .contains(name)
        || matches!(
            name.as_str(),
            "range"
                | "if-match"
                | "if-none-match"
                | "if-modified-since"
                | "if-unmodified-since"
                | "if-range"
                | "origin"
                | "referer"
                | "accept-encoding"
                | "user-agent"
                | "cdn-loop"
                | "max-forwards"
                | "cache-control"
                | "pragma"
                | "keep-alive"
                | "proxy-connection"
                | "http2-settings"
                | "content-type"
                | "content-encoding"
                | "date"
        )
}

/// What no trailer of a request may say (RFC 9110 6.5.1). As in [`is_hop_claim`], an underscore is as
/// good as a hyphen.
pub(crate) fn is_of_a_request_head_alone(name: &HeaderName) -> bool {
    let folded = folded(name);
    is_hop_claim(&folded)
        || is_credential(&folded)
        || is_of_the_head_alone(&folded)
        || folded == CONTENT_RANGE
}

/// What no trailer of a response may say (RFC 9110 6.5.1): framing, cookies, what caches go by.
pub(crate) fn is_of_a_response_head_alone(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "set-cookie"
            | "set-cookie2"
            | "cache-control"
            | "pragma"
            | "expires"
            | "age"
            | "date"
            | "vary"
            | "location"
            | "retry-after"
            | "trailer"
            | "transfer-encoding"
            | "content-length"
            | "content-encoding"
            | "content-type"
            | "content-range"
            | "clear-site-data"
            | "www-authenticate"
            | "strict-transport-security"
            | "via"
            | "cdn-loop"
    )
}

/// Response headers that a cache or gateway before us would take for its own, with `Alt-Svc`, which
/// leads around the edge, and what is between the origin and us.
pub(crate) fn speaks_to_caches_before_us(name: &HeaderName) -> bool {
    let is_tags = labels::names_tags(name);
    let name = name.as_str();
    is_tags
        || name.starts_with("surrogate-")
        || name.starts_with("x-accel-")
        || name.starts_with("shikiri-")
        || name == "alt-svc"
        || name.ends_with("-cache-control")
        || name == "edge-control"
        || name == "cache-status"
}

/// Response headers that do not speak of the page and so do not leave with a shared copy:
/// reporting, tracing, surrogate and internal ones, and `Alt-Svc`, which leads around the edge.
pub(crate) fn is_not_of_the_page(name: &HeaderName) -> bool {
    let is_tags = labels::names_tags(name);
    let name = name.as_str();
    is_tags
        || matches!(
            name,
            "set-cookie"
                | "set-cookie2"
                | "alt-svc"
                | "report-to"
                | "reporting-endpoints"
                | "nel"
                | "server-timing"
                | "traceparent"
                | "tracestate"
                | "baggage"
                | "x-request-id"
                | "x-correlation-id"
                | "x-trace-id"
                | "x-amzn-trace-id"
                | "x-amzn-requestid"
                | "x-amz-request-id"
                | "x-amz-id-2"
                | "x-cloud-trace-context"
                | "request-id"
                | "x-runtime"
                | "x-response-time"
                | "x-process-time"
                | "x-request-start"
                | "x-envoy-upstream-service-time"
                | "x-cache"
                | "x-cache-hits"
                | "x-served-by"
                | "x-varnish"
                | "x-timer"
                | "x-backend"
                | "x-backend-server"
                | "x-real-ip"
                | "cf-ray"
                | "cf-cache-status"
                | "x-debug-token"
                | "x-debug-token-link"
                | "age"
                | "connection"
                | "keep-alive"
                | "proxy-authenticate"
                | "proxy-authorization"
                | "proxy-authentication-info"
                | "proxy-connection"
                | "te"
                | "trailer"
                | "transfer-encoding"
                | "upgrade"
                | "authentication-info"
                | "www-authenticate"
                | "clear-site-data"
                | "cache-status"
                | "proxy-status"
                | "via"
                | "cdn-loop"
        )
        || name.starts_with("surrogate-")
        || name.starts_with("x-accel-")
        || name.starts_with("x-b3-")
        || name.starts_with("x-forwarded-")
        || name.starts_with("shikiri-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::headers;

    #[test]
    fn claims_of_a_hop_in_every_spelling_that_gateways_fold() {
        for (name, expected) in [
            ("forwarded", true),
            ("x-forwarded-for", true),
            ("x_forwarded_for", true),
            ("x-forwarded_proto", true),
            ("x_real_ip", true),
            ("client_cert", true),
            ("shikiri_viewer", true),
            ("true_client_ip", true),
            ("x-forward", false),
            ("accept", false),
        ] {
            let name: HeaderName = name.parse().unwrap();
            assert_eq!(is_hop_claim(&name), expected, "{name}");
        }
    }

    #[test]
    fn what_names_another_target() {
        for (name, expected) in [
            ("x-original-url", true),
            ("x_original_url", true),
            ("x-rewrite-url", true),
            ("x-envoy-original-path", true),
            ("x-waws-unencoded-url", true),
            ("request-uri", true),
            ("x-http-method-override", true),
            ("x-http-method", true),
            ("forwarded", true),
            ("x-forwarded-host", true),
            ("x_forwarded_host", true),
            ("x-forwarded-proto", true),
            ("x-forwarded-server", true),
            ("x-forwarded-prefix", true),
            ("x-forwarded-port", true),
            ("x-host", true),
            ("host", false),
            ("x-forwarded-for", false),
            ("x-forwarded-user", false),
            ("x-forwarded-client-cert", false),
            ("cookie", false),
            ("authorization", false),
            ("accept", false),
            ("x-requested-with", false),
            ("referer", false),
        ] {
            let name: HeaderName = name.parse().unwrap();
            assert_eq!(names_another_target(&name), expected, "{name}");
        }
    }

    #[test]
    fn what_names_a_credential_is_in_no_key() {
        for (name, expected) in [
            ("x-api-key", true),
            ("x-auth-token", true),
            ("x-csrf-token", true),
            ("x-authenticated-user", true),
            ("x-session", true),
            ("x-client-secret", true),
            ("x-password-hash", true),
            ("x-user-jwt", true),
            ("cookie", true),
            ("range", true),
            ("traceparent", true),
            ("accept-language", false),
            ("accept", false),
            ("x-country", false),
            ("sec-ch-ua-mobile", false),
            ("save-data", false),
        ] {
            let name: HeaderName = name.parse().unwrap();
            assert_eq!(never_in_a_key(&name), expected, "{name}");
        }
    }

    #[test]
    fn what_names_one_request() {
        for (name, expected) in [
            ("traceparent", true),
            ("tracestate", true),
            ("baggage", true),
            ("b3", true),
            ("x-b3-traceid", true),
            ("x_b3_sampled", true),
            ("uber-trace-id", true),
            ("uberctx-user", true),
            ("x-datadog-parent-id", true),
            ("x-amzn-trace-id", true),
            ("x-amzn-requestid", true),
            ("x-cloud-trace-context", true),
            ("x-request-id", true),
            ("x_request_id", true),
            ("request-id", true),
            ("x-ms-client-request-id", true),
            ("x-correlation-id", true),
            ("x-transaction-id", true),
            ("elastic-apm-traceparent", true),
            ("idempotency-key", true),
            ("x-requested-with", false),
            ("x-request-kind", false),
            ("x-country", false),
            ("x-edition", false),
            ("accept-language", false),
            ("save-data", false),
        ] {
            let name: HeaderName = name.parse().unwrap();
            assert_eq!(names_one_request(&name), expected, "{name}");
        }
    }

    #[test]
    fn connection_takes_away_nothing_that_says_how_to_read_a_message() {
        let mut fields = headers(
            "connection: content-type, content-encoding, content-security-policy, x-hop, set-cookie
             content-type: text/css
             content-encoding: gzip
             content-security-policy: sandbox
             set-cookie: a=b
             x-hop: 1",
        );
        strip_hop_by_hop(&mut fields);
        let mut left: Vec<&str> = fields.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(
            left,
            [
                "content-encoding",
                "content-security-policy",
                "content-type",
                "set-cookie"
            ]
        );
    }
}
