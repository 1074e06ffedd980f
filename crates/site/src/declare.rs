//! What a page is: the declaration from which everything about its sharing follows.
//!
//! Three constructors, one for each class, and no fourth: [`Page::personal`], [`Page::shared`],
//! [`Page::media`]. Each takes a handler of its own type, so a declaration and what is served under
//! it cannot disagree. Response headers, the policy, the crawl list and the map of personal data are
//! read from here and written down nowhere else.
//!
//! Invariant: the handler of a shared page is a function of a [`Public`] request and of the shelf.
//! It has never seen a cookie, and nothing on the shelf is anybody's.

use std::fmt;
use std::time::Duration;

use crate::answer::{Answer, AnyBody, Media, MediaBody, Personal, Shared, SharedBody};
use crate::asked::{Asked, Millis, Public};
use crate::media::MediaBase;
use crate::refusal::Refusal;
use crate::rest::Notice;

/// What pages are made from.
///
/// The shelf holds what everybody may see.
pub trait App: Send + Sync + 'static {
    type Shelf: Send + Sync;

    fn shelf(&self) -> &Self::Shelf;
    /// The page that says why there is no other; in the language of the address.
    fn refusal(&self, asked: &Public, why: &Refusal) -> String;
    /// What personal pages say on top while the site is closed. Shared pages never say it: a copy would
    /// say it for as long as it lives.
    fn notice(&self, now: Millis) -> Option<Notice>;
    /// Where pages find pictures and films.
    fn media(&self) -> &MediaBase;
}

/// An application with members. One without has no way to declare a personal page.
pub trait Members: App {
    type Desk: Send + Sync;

    fn desk(&self) -> &Self::Desk;
}

/// Kinds of personal data, as incident response counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Nickname,
    Mail,
    PurchaseHistory,
    ViewingHistory,
    Reviews,
    MemberStatus,
    Points,
    Name,
    Address,
    Phone,
    Cart,
    PostedVideos,
    Enquiries,
    Notices,
    BankAccount,
}

impl Kind {
    /// The word for it in policies and lists.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Nickname => "nickname",
            Self::Mail => "mail",
            Self::PurchaseHistory => "purchase-history",
            Self::ViewingHistory => "viewing-history",
            Self::Reviews => "reviews",
            Self::MemberStatus => "member-status",
            Self::Points => "points",
            Self::Name => "name",
            Self::Address => "address",
            Self::Phone => "phone",
            Self::Cart => "cart",
            Self::PostedVideos => "posted-videos",
            Self::Enquiries => "enquiries",
            Self::Notices => "notices",
            Self::BankAccount => "bank-account",
        }
    }
}

/// The method of a page. `Get` answers HEAD too, and changes nothing; `Post` acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Get,
    Post,
}

impl Verb {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
        }
    }
}

/// How a page may be shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Personal,
    Shared,
    Media,
}

impl Class {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Personal => "personal",
            Self::Shared => "shared",
            Self::Media => "media",
        }
    }
}

/// Who asks for a page that is for holders alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Anybody,
    /// The edge, which lets in whom it lets in.
    Edge,
    /// Somebody whose ticket is good.
    Holder,
}

type PersonalServe<A> = dyn Fn(&A, &Asked) -> Result<Personal<AnyBody>, Refusal> + Send + Sync;
type SharedServe<A> =
    dyn Fn(&<A as App>::Shelf, &Public) -> Result<Shared<AnyBody>, Refusal> + Send + Sync;
type MediaServe<A> =
    dyn Fn(&<A as App>::Shelf, &Public) -> Result<Media<AnyBody>, Refusal> + Send + Sync;

enum Serve<A: App> {
    Personal(Box<PersonalServe<A>>),
    Shared(Box<SharedServe<A>>),
    Media(Box<MediaServe<A>>),
}

/// A declared page. It is made by one of three constructors and read by everything else.
#[must_use]
pub struct Page<A: App> {
    name: &'static str,
    verb: Verb,
    pattern: Pattern,
    serve: Serve<A>,
    shows: &'static [Kind],
    query: &'static [&'static str],
    fresh: Duration,
    examples: Vec<String>,
    types: &'static [&'static str],
    holders: bool,
    slice_bytes: u32,
    upload_bytes_max: usize,
}

impl<A: Members> Page<A> {
    /// A page of one person, or of nobody yet (a login form). `shows` are the kinds of personal data
    /// on it.
    pub fn personal<B: Into<AnyBody> + 'static>(
        name: &'static str,
        verb: Verb,
        path: &'static str,
        shows: &'static [Kind],
        serve: fn(&A::Desk, &Asked) -> Result<Personal<B>, Refusal>,
    ) -> Self {
        let serve = move |app: &A, asked: &Asked| serve(app.desk(), asked).map(Personal::erased);
        let mut page = Self::new(name, verb, path, Serve::Personal(Box::new(serve)));
        page.shows = shows;
        page
    }
}

impl<A: App> Page<A> {
    /// A page that is the same for everybody. `query` are the parameters that it depends on: no
    /// other reaches the handler. A copy is fresh for `fresh`, in whole seconds.
    pub fn shared<B: SharedBody + 'static>(
        name: &'static str,
        path: &'static str,
        query: &'static [&'static str],
        fresh: Duration,
        serve: fn(&A::Shelf, &Public) -> Result<Shared<B>, Refusal>,
    ) -> Self {
        let serve = move |shelf: &A::Shelf, asked: &Public| serve(shelf, asked).map(Shared::erased);
        let mut page = Self::new(name, Verb::Get, path, Serve::Shared(Box::new(serve)));
        page.query = query;
        page.fresh = fresh;
        page.types = B::TYPES;
        page
    }

    /// Pictures and films: the same for everybody, and for ever, since the name changes with the
    /// content.
    pub fn media<B: MediaBody + 'static>(
        name: &'static str,
        path: &'static str,
        serve: fn(&A::Shelf, &Public) -> Result<Media<B>, Refusal>,
    ) -> Self {
        let serve = move |shelf: &A::Shelf, asked: &Public| serve(shelf, asked).map(Media::erased);
        let mut page = Self::new(name, Verb::Get, path, Serve::Media(Box::new(serve)));
        page.fresh = Duration::from_hours(24 * 365);
        page.types = B::TYPES;
        page
    }

    /// The same for all who may have it, and not for everybody: it is answered to the edge, which has let
    /// somebody in, and to whoever has a ticket for it.
    pub fn for_holders(mut self) -> Self {
        self.holders = true;
        self
    }

    /// It is large, or may be: an edge fetches and stores it in slices of so many bytes, so that whoever
    /// seeks in it neither waits for nor stores the whole of it. Of media alone.
    pub fn in_slices(mut self, slice_bytes: u32) -> Self {
        self.slice_bytes = slice_bytes;
        self
    }

    /// An address at which the page can be seen in the sample store: for crawlers and checks.
    pub fn example(mut self, path: impl Into<String>) -> Self {
        self.examples.push(path.into());
        self
    }

    /// Its form may hold one file, of so many bytes at most.
    pub fn taking(mut self, upload_bytes_max: usize) -> Self {
        self.upload_bytes_max = upload_bytes_max;
        self
    }

    fn new(name: &'static str, verb: Verb, path: &'static str, serve: Serve<A>) -> Self {
        Self {
            name,
            verb,
            pattern: Pattern(path),
            serve,
            shows: &[],
            query: &[],
            fresh: Duration::ZERO,
            examples: Vec::new(),
            types: &["text/html"],
            holders: false,
            slice_bytes: 0,
            upload_bytes_max: 0,
        }
    }

    /// Which page this is, as `Shikiri-Page` says.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    #[must_use]
    pub fn verb(&self) -> Verb {
        self.verb
    }

    #[must_use]
    pub fn pattern(&self) -> Pattern {
        self.pattern
    }

    #[must_use]
    pub fn class(&self) -> Class {
        match self.serve {
            Serve::Personal(_) => Class::Personal,
            Serve::Shared(_) => Class::Shared,
            Serve::Media(_) => Class::Media,
        }
    }

    /// The kinds of personal data that it shows.
    #[must_use]
    pub fn shows(&self) -> &'static [Kind] {
        self.shows
    }

    /// The parameters that it depends on, when it is shared.
    #[must_use]
    pub fn query(&self) -> &'static [&'static str] {
        self.query
    }

    /// How long a copy is fresh.
    #[must_use]
    pub fn fresh(&self) -> Duration {
        self.fresh
    }

    #[must_use]
    pub fn examples(&self) -> &[String] {
        &self.examples
    }

    /// How large a file its form may hold; 0 when it takes none.
    #[must_use]
    pub fn upload_bytes_max(&self) -> usize {
        self.upload_bytes_max
    }

    /// The content types of what is shared, without parameters.
    #[must_use]
    pub fn content_types(&self) -> &'static [&'static str] {
        self.types
    }

    /// Whether only some may have it.
    #[must_use]
    pub fn is_for_holders(&self) -> bool {
        self.holders
    }

    /// How many bytes a slice of it has; 0 where it is not to be sliced.
    #[must_use]
    pub fn slice_bytes(&self) -> u32 {
        self.slice_bytes
    }

    /// Makes the page. What it is shared as was decided when it was declared.
    pub(crate) fn answer(&self, app: &A, asked: &Asked, entry: Entry) -> Result<Answer, Refusal> {
        if self.holders && entry == Entry::Anybody {
            return Err(Refusal::Holders);
        }
        match &self.serve {
            Serve::Personal(serve) => serve(app, asked).map(Answer::from),
            Serve::Shared(serve) => {
                let public = asked.public.with_query(self.query);
                serve(app.shelf(), &public).map(|it| it.fresh_for(self.fresh))
            }
            Serve::Media(serve) => {
                let public = asked.public.with_query(&[]);
                let found = serve(app.shelf(), &public)?;
                Ok(match entry {
                    Entry::Holder if self.holders => found.for_one_holder(),
                    _ => found.fresh_for(self.fresh),
                })
            }
        }
    }
}

impl<A: App> fmt::Debug for Page<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let class = self.class();
        write!(
            f,
            "{} {} ({})",
            self.verb.name(),
            self.pattern.0,
            class.name()
        )
    }
}

/// A path with parameters: `/{lang}/products/{product}`. A parameter is one whole segment and never
/// empty; `{lang}` is `ja` or `en`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pattern(&'static str);

/// The languages that `{lang}` stands for.
pub(crate) const LANGUAGES: &[&str] = &["ja", "en"];

impl Pattern {
    #[must_use]
    pub fn text(self) -> &'static str {
        self.0
    }

    /// The parameters of a path that it matches. Paths are compared as on the wire.
    #[must_use]
    pub fn parameters(self, path: &str) -> Option<Vec<(&'static str, String)>> {
        let mut found = Vec::new();
        let mut path = path.split('/');
        for segment in self.0.split('/') {
            let given = path.next()?;
            match parameter(segment) {
                Some("lang") if !LANGUAGES.contains(&given) => return None,
                Some(_) if given.is_empty() => return None,
                Some(name) => found.push((name, given.to_owned())),
                None if segment != given => return None,
                None => {}
            }
        }
        path.next().is_none().then_some(found)
    }

    /// Whether some path is matched by both.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        let (ours, theirs) = (self.0.split('/'), other.0.split('/'));
        ours.clone().count() == theirs.clone().count()
            && ours
                .zip(theirs)
                .all(|(a, b)| match (parameter(a), parameter(b)) {
                    (None, None) => a == b,
                    (Some("lang"), None) => LANGUAGES.contains(&b),
                    (None, Some("lang")) => LANGUAGES.contains(&a),
                    _ => true,
                })
    }

    /// The path patterns of a policy that match the same paths.
    #[must_use]
    pub fn in_policy(self) -> Vec<String> {
        let languages: &[&str] = match self.0.contains("{lang}") {
            true => LANGUAGES,
            false => &[""],
        };
        let one = |language: &&str| {
            let segments = self.0.split('/').map(|segment| match parameter(segment) {
                Some("lang") => (*language).to_owned(),
                Some(_) => "*".to_owned(),
                None => segment.to_owned(),
            });
            segments.collect::<Vec<_>>().join("/")
        };
        languages.iter().map(one).collect()
    }
}

fn parameter(segment: &'static str) -> Option<&'static str> {
    segment.strip_prefix('{')?.strip_suffix('}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_whole_segments() {
        for (pattern, path, found) in [
            ("/", "/", Some(vec![])),
            ("/", "//", None),
            ("/{lang}/films", "/ja/films", Some(vec!["ja"])),
            ("/{lang}/films", "/fr/films", None),
            ("/{lang}/films", "/ja/films/", None),
            (
                "/{lang}/films/{film}",
                "/en/films/a%2Fb",
                Some(vec!["en", "a%2Fb"]),
            ),
            ("/{lang}/films/{film}", "/en/films/", None),
            ("/{lang}/films/{film}", "/en/films/a/b", None),
        ] {
            let parameters = Pattern(pattern).parameters(path);
            let values =
                parameters.map(|it| it.into_iter().map(|(_, value)| value).collect::<Vec<_>>());
            let found = found.map(|it| it.into_iter().map(str::to_owned).collect::<Vec<_>>());
            assert_eq!(values, found, "{pattern} {path}");
        }
    }

    #[test]
    fn patterns_overlap_where_one_path_fits_both() {
        for (a, b, both) in [
            ("/{lang}/films", "/{lang}/films", true),
            ("/{lang}/films", "/ja/films", true),
            ("/{lang}/films", "/static/films", false),
            ("/{lang}/films/{film}", "/{lang}/films/new", true),
            ("/{lang}/films/{film}", "/{lang}/films", false),
            ("/{lang}/{page}", "/media/{picture}", false),
        ] {
            assert_eq!(Pattern(a).overlaps(Pattern(b)), both, "{a} {b}");
            assert_eq!(Pattern(b).overlaps(Pattern(a)), both, "{b} {a}");
        }
    }
}
