//! A stored response mints nothing: two anonymous copies compared.
