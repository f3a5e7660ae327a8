//! What Landlock can forbid on this kernel.
//!
//! A set of rules that is made and thrown away tells; it confines nothing.

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _,
    RulesetError, Scope,
};

/// What each kernel since the first one brought, in words.
pub(super) fn features() -> Vec<&'static str> {
    let ruleset = || Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    let files = |rights: ABI| ruleset().handle_access(AccessFs::from_all(rights)).and_then(Ruleset::create);
    let known = |made: Result<landlock::RulesetCreated, RulesetError>| made.is_ok();
    [
        ("files", known(files(ABI::V1))),
        ("moves between folders", known(files(ABI::V2))),
        ("truncation", known(files(ABI::V3))),
        ("TCP ports", known(ruleset().handle_access(AccessNet::from_all(ABI::V4)).and_then(Ruleset::create))),
        ("device controls", known(files(ABI::V5))),
        (
            "signals and abstract sockets",
            known(ruleset().scope(Scope::from_all(ABI::V6)).and_then(Ruleset::create)),
        ),
        ("unix sockets by path", known(files(ABI::V9))),
    ]
    .into_iter()
    .filter_map(|(name, there)| there.then_some(name))
    .collect()
}
