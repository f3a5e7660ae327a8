//! The rules that hold the house together, checked over `cargo metadata` and the sources themselves.
//!
//! Each rule is a function from a plain model to the list of what breaks it ([`rules`], [`licence`]), with a test
//! that shows it can fail. The tests here apply them to the workspace as it is.

#![allow(clippy::unwrap_used, reason = "the whole program is a test")]

mod bites;
mod features;
mod licence;
mod quiet;
mod rules;
mod words;
mod workspace;

use workspace::Workspace;

fn assert_holds(broken: &[String]) {
    assert!(broken.is_empty(), "\n  {}\n", broken.join("\n  "));
}

#[test]
fn crates_depend_on_one_another_only_along_the_allowed_arrows() {
    assert_holds(&rules::arrows(&Workspace::load().packages));
}

#[test]
fn no_banned_crate_is_anywhere_in_the_graph() {
    assert_holds(&rules::banned(&Workspace::load().packages));
}

#[test]
fn every_licence_is_on_the_list() {
    assert_holds(&rules::licences(&Workspace::load().packages));
}

#[test]
fn every_dependency_comes_from_the_registry() {
    assert_holds(&rules::sources(&Workspace::load().packages));
}

#[test]
fn only_the_programs_that_switch_logging_off_depend_on_it() {
    assert_holds(&rules::logging(&Workspace::load().packages));
}

#[test]
fn every_crate_inherits_edition_lints_licence_and_version() {
    assert_holds(&rules::inheritance(&Workspace::load().manifests));
}

#[test]
fn no_source_file_is_longer_than_one_idea() {
    assert_holds(&rules::lengths(&Workspace::load().sources));
}

#[test]
fn unsafe_code_is_allowed_in_the_system_call_layer_only() {
    assert_holds(&rules::unsafe_code(&Workspace::load().sources));
}

#[test]
fn nothing_is_logged() {
    assert_holds(&rules::log_macros(&Workspace::load().sources));
}

#[test]
fn metadata_types_can_be_neither_printed_nor_serialised() {
    assert_holds(&rules::metadata_derives(&Workspace::load().sources));
}

#[test]
fn nothing_is_left_unfinished_or_ignored() {
    assert_holds(&rules::unfinished(&Workspace::load().sources));
}

#[test]
fn every_parser_that_can_be_fuzzed_has_a_program_that_fuzzes_it() {
    let workspace = Workspace::load();
    assert_holds(&rules::fuzz_targets(&workspace.sources, &workspace.manifests));
}

#[test]
fn nothing_is_printed_logged_opened_or_timed_where_traffic_passes() {
    assert_holds(&quiet::rooms(&Workspace::load().sources));
}

#[test]
fn leaks_on_purpose_are_behind_their_feature() {
    assert_holds(&quiet::leaks(&Workspace::load().sources));
}

#[test]
fn services_say_only_what_the_catalogue_lists() {
    let workspace = Workspace::load();
    assert_holds(&quiet::mouths(&workspace.sources));
    assert_holds(&words::said(&workspace.sources));
    assert_holds(&quiet::sentences(&workspace.sources, include_str!("../../docs/messages.md")));
}

#[test]
fn no_type_that_can_be_printed_holds_an_address_a_name_or_a_key() {
    assert_holds(&words::printable(&Workspace::load().sources));
}
