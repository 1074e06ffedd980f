//! What must not compile does not.
//!
//! The messages are those of the toolchain in `rust-toolchain.toml`; after a change of it, or of the
//! types, `TRYBUILD=overwrite` writes them anew, and a person reads whether they still say why.

#[test]
fn pages_are_declared_and_not_marked_by_hand() {
    trybuild::TestCases::new().compile_fail("tests/fail/*.rs");
}
