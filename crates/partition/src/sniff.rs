//! Content against its declared type.
