//! What surprises in cells of the matrix, and is true: each was replayed and understood.
//!
//! Never excuses a cell, and never outlives it: a note is printed only while all its cells show what it
//! is about, and a run names the notes that hold no more.

use super::matrix::{Matrix, Square};

/// A note on some cells of some cases.
pub(crate) struct Note {
    pub(crate) cases: &'static [&'static str],
    /// Caches with their configurations, as `nginx expert`.
    pub(crate) cells: &'static [&'static str],
    pub(crate) shows: Shows,
    /// A sentence or two, with what can be looked up.
    pub(crate) says: &'static str,
}

/// What the cells of a note show.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shows {
    Leak,
    Safe,
    OldCopy,
    NoAnswer,
}

impl Shows {
    fn is_in(self, square: &Square) -> bool {
        match self {
            Self::Leak => !square.leaks.is_empty(),
            Self::Safe => square.sign() == "·",
            Self::OldCopy => square.leaks.is_empty() && square.old.is_some(),
            Self::NoAnswer => square.unanswered.is_some(),
        }
    }
}

impl Note {
    /// Whether all its cells are as it says; `None` when the matrix has not all of them.
    pub(crate) fn holds(&self, matrix: &Matrix<'_>) -> Option<bool> {
        let mut holds = true;
        for case in self.cases {
            let row = matrix.scripts.iter().position(|s| s.name == *case)?;
            for cell in self.cells {
                let is = |c: &(&str, &str)| *cell == format!("{} {}", c.0, c.1);
                let column = matrix.columns.iter().position(is)?;
                holds &= self.shows.is_in(&matrix.squares[row][column]);
            }
        }
        Some(holds)
    }
}

const ALL_HURRIED: &[&str] = &[
    "nginx hurried",
    "varnish hurried",
    "squid hurried",
    "trafficserver hurried",
    "apache hurried",
    "haproxy hurried",
];

pub(crate) const NOTES: &[Note] = &[
    Note {
        cases: &[
            "i16-answer-left-on-a-connection",
            "i22-lawson-under-load",
            "m27-method-confusion",
            "m33-answers-out-of-step",
            "m33-request-smuggling",
            "m33-undrained-body-and-upgrade",
            "m34-client-leaves",
        ],
        cells: ALL_HURRIED,
        shows: Shows::Safe,
        says: "not one of the six mixes up connections or methods, under any configuration. These accidents happened \
               to other programs, or to these before they were mended.",
    },
    Note {
        cases: &[
            "i01-day-2-images-scripts-styles-only",
            "m20-deception-by-directory",
            "m20-deception-by-suffix",
        ],
        cells: &["varnish hurried"],
        shows: Shows::Safe,
        says: "the recipe that many blogs have takes the cookie away *before* it asks the origin, so what is stored is \
               nobody's. That is what our edge does always, and it is why this hurried operator is safe.",
    },
    Note {
        cases: &[
            "i01-day-2-images-scripts-styles-only",
            "m20-deception-by-suffix",
        ],
        cells: &["squid hurried"],
        shows: Shows::Safe,
        says: "with `ignore-private`, Squid 5 stores what is private and asks the origin again before each use.",
    },
    Note {
        cases: &["i01-day-2-right-policy-old-objects"],
        cells: &["haproxy hurried"],
        shows: Shows::Safe,
        says: "its cache is the memory of the process that a reload replaces ([peers.md](peers.md#reloads)).",
    },
    Note {
        cases: &["i01-day-2-right-policy-old-objects"],
        cells: &["squid hurried"],
        shows: Shows::Safe,
        says: "Squid keeps no lifetime with what it stores: the `refresh_pattern` in force when it is asked for decides \
               ([refresh_pattern](https://www.squid-cache.org/Doc/config/refresh_pattern/)), so the right rules reach \
               the old objects too.",
    },
    Note {
        cases: &["i01-day-2-setting-not-obeyed"],
        cells: &["apache hurried"],
        shows: Shows::Safe,
        says: "`Expires: 0` beside `no-store` makes stale at once what mod_cache was told to keep, so it asks again.",
    },
    Note {
        cases: &["i02-mercari-expires-in-the-past"],
        cells: &["trafficserver packaged"],
        shows: Shows::Leak,
        says: "the accident, in a cache as it is packaged: `Expires` in the past is lifetime zero, and who asks while \
               the first answer is on its way is given it ([Read While \
               Writer](https://docs.trafficserver.apache.org/en/9.2.x/admin-guide/configuration/cache-basics.en.html)).",
    },
    Note {
        cases: &["i09-form-values"],
        cells: &[
            "nginx expert",
            "varnish expert",
            "squid expert",
            "haproxy expert",
        ],
        shows: Shows::Leak,
        says: "between visitors: the page says `public` and holds a CSRF token, so two visitors are given the same one.",
    },
    Note {
        cases: &["m05-set-cookie-in-a-304"],
        cells: &["varnish hurried", "apache packaged"],
        shows: Shows::Leak,
        says: "fields of a 304 go into what is stored, `Set-Cookie` too (RFC 9111 3.2). nginx takes none of them.",
    },
    Note {
        cases: &["m07-authorization", "m08-authorization-public"],
        cells: &["squid hurried", "apache hurried"],
        shows: Shows::Safe,
        says: "neither stores nor looks up under `Authorization`, whatever it is told.",
    },
    Note {
        cases: &["m08-authorization-public"],
        cells: &["haproxy packaged"],
        shows: Shows::Leak,
        says: "who sends `Authorization` is not answered from the cache, but a `public` answer to him is stored, and \
               given to a visitor who sends none.",
    },
    Note {
        cases: &["m09-spellings-of-a-prohibition"],
        cells: &["squid packaged", "squid expert"],
        shows: Shows::Leak,
        says: "Squid 5 obeys `private` and `no-store` in small letters alone; RFC 9111 5.2 says that case does not matter.",
    },
    Note {
        cases: &["m09-expires-that-is-no-date"],
        cells: &["varnish packaged", "varnish expert"],
        shows: Shows::Leak,
        says: "Varnish 7.1 takes an `Expires` that is no date, `0` too, for none, and gives its default of two minutes.",
    },
    Note {
        cases: &["m22-host-not-in-the-key", "m25-host-and-absolute-form"],
        cells: &["nginx packaged", "nginx hurried"],
        shows: Shows::Leak,
        says: "both for one reason: the default key is `$scheme$proxy_host$request_uri`, and `$proxy_host` is the \
               origin's name ([proxy_cache_key](https://nginx.org/en/docs/http/ngx_http_proxy_module.html#proxy_cache_key)).",
    },
    Note {
        cases: &["m24-fat-get"],
        cells: &["varnish hurried", "squid hurried"],
        shows: Shows::Safe,
        says: "Varnish takes the body of a `GET` away before it asks ([built-in \
               VCL](https://varnish-cache.org/docs/7.1/users-guide/vcl-built-in-code.html)), and Squid stores no answer to one.",
    },
    Note {
        cases: &["m28-conditional-request"],
        cells: &["squid packaged", "squid expert"],
        shows: Shows::Leak,
        says: "a client's own `If-None-Match` goes to the origin, and its 304 freshens what is stored under another \
               validator and replaces that validator, which RFC 9111 4.3.4 forbids. Under the hurried operator's text \
               nothing becomes stale within the run.",
    },
    Note {
        cases: &["m30-variants-without-bound"],
        cells: &["haproxy expert"],
        shows: Shows::Leak,
        says: "with `process-vary`, a coding in `Accept-Encoding` that HAProxy does not know counts as none. Without it, \
               answers with `Vary` are not stored at all.",
    },
    Note {
        cases: &["m31-interim-responses"],
        cells: &["nginx hurried"],
        shows: Shows::Leak,
        says: "an interim response of a kind that nginx does not know (here 199) is taken for the answer and, with a \
               lifetime for `any` status, kept with the cookie in it.",
    },
    Note {
        cases: &["m31-interim-responses"],
        cells: &[
            "trafficserver packaged",
            "trafficserver hurried",
            "trafficserver expert",
        ],
        shows: Shows::NoAnswer,
        says: "two interim responses in a row, and Traffic Server closes on its client.",
    },
    Note {
        cases: &["m37-connection-bound-authentication"],
        cells: &["varnish expert", "apache expert"],
        shows: Shows::Leak,
        says: "the origin takes the connection for a person, and the pool lends it to the next. HTTP forbids that to the \
               origin, not the pool to the proxy (RFC 9110 3.3).",
    },
    Note {
        cases: &["m37-connection-bound-authentication"],
        cells: &["haproxy expert"],
        shows: Shows::Leak,
        says: "HAProxy takes a connection out of its pool once it has seen the challenge on it; but what looks public is \
               still asked for on a member's connection, and then shared.",
    },
    Note {
        cases: &["m16-origin-became-private", "m18-stale-if-error"],
        cells: &["nginx expert"],
        shows: Shows::OldCopy,
        says: "with `proxy_cache_background_update`, an expired copy is served while it is refreshed; the refresh may not \
               be stored, so the copy stays, and is served as stale again and again. It was stored for a visitor: nobody's.",
    },
    Note {
        cases: &["m42-background-revalidation"],
        cells: &["nginx hurried", "varnish hurried"],
        shows: Shows::Leak,
        says: "the refresh behind the visitor's back is sent with this visitor's cookie.",
    },
    Note {
        cases: &["m39-reload-with-requests-running"],
        cells: ALL_HURRIED,
        shows: Shows::Safe,
        says: "the policy that is loaded is right in all of them, and looks up nothing that it does not share, so what \
               came in the meantime is not found. Old objects under a rule that still looks up: \
               `i01-day-2-right-policy-old-objects`.",
    },
    Note {
        cases: &["m25-server-name-and-host", "m36-session-of-another-tenant"],
        cells: &["haproxy hurried"],
        shows: Shows::Leak,
        says: "`verify required` holds for the handshake of that server name, and nothing else: a connection for one \
               name may ask for another host unless a rule compares them, and a session begun at a name that wants no \
               certificate is resumed at the one that does. Without either trick it refuses, as the script checks first.",
    },
    Note {
        cases: &["m43-address-as-identity"],
        cells: &["haproxy packaged", "haproxy hurried"],
        shows: Shows::Safe,
        says: "without `option forwardfor`, HAProxy does not tell the origin the client's address.",
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leaks::matrix::OURS;
    use crate::peers::{CONFIGURATIONS, PEERS};

    #[test]
    fn notes_are_on_cells_that_there_are() {
        let options = crate::leaks::options(&[]).expect("no arguments are fine");
        let scripts = crate::leaks::read(&options).expect("they are there");
        for note in NOTES {
            for case in note.cases {
                assert!(scripts.iter().any(|script| script.name == *case), "{case}");
            }
            for cell in note.cells {
                let (peer, configuration) = cell.split_once(' ').expect("two words");
                assert_ne!(peer, OURS, "what surprises in ours is mended");
                assert!(PEERS.iter().any(|known| known.name == peer), "{cell}");
                assert!(CONFIGURATIONS.contains(&configuration), "{cell}");
            }
        }
    }
}
