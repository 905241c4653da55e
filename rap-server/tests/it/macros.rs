//! What the compiler says about types that are no extractor, no result, no tool. What the macro itself says is
//! tested in its own crate, and what compiles in `forms`.

/// Messages for humans.
#[test]
fn messages() {
    trybuild::TestCases::new().compile_fail("tests/macros/*.rs");
}
