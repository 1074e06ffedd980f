//! Why there is no page: data with a status, turned into an answer in one place.
//!
//! A refusal is nobody's: it names no viewer and shows no data. It is never kept.

use http::StatusCode;

use crate::store::StoreFault;

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// There is no such page, or it is not this member's: one answer for both, so that ids of others
    /// cannot be told from ids of nobody.
    #[error("there is no such page")]
    NotFound,
    #[error("the page has no such method")]
    Method,
    /// Only who has a ticket, or the edge, is answered here.
    #[error("not without a ticket")]
    Holders,
    /// It needs a member.
    #[error("not logged in")]
    LogIn,
    /// It needs the password again.
    #[error("the password was not given lately")]
    StepUp,
    /// A form that another site sent, or that no browser sent from one of our pages.
    #[error("a form that did not come from a page of this site")]
    ForeignForm,
    /// Somebody typed what looks like the number of a card: it goes no further than here.
    #[error("a form with what looks like the number of a card")]
    CardNumber,
    #[error("a body that is no form, or too large a one")]
    BadForm,
    #[error("too many tries; again in {wait_s} s")]
    TooMany { wait_s: u64 },
    #[error("too much to do at once")]
    Busy,
    #[error("the store failed")]
    Store(#[from] StoreFault),
}

impl Refusal {
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::LogIn | Self::StepUp => StatusCode::SEE_OTHER,
            Self::ForeignForm | Self::Holders => StatusCode::FORBIDDEN,
            Self::BadForm => StatusCode::BAD_REQUEST,
            Self::CardNumber => StatusCode::UNPROCESSABLE_ENTITY,
            Self::TooMany { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::Store(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}
