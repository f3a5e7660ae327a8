//! What says who is where compiles in no log, no error text and no general serialiser: programs that try do not compile.
//! After a change of the compiler or of serde, `TRYBUILD=overwrite` writes anew what it says.

#[test]
fn metadata_can_be_neither_printed_nor_serialised() {
    trybuild::TestCases::new().compile_fail("tests/metadata/*.rs");
}
