//! SPDX licence expressions, as far as manifests use them: names, `WITH`, `AND`, `OR`, brackets, and the old `/`.

/// Licences that may be part of Tacet. None asks more of a user than to keep a notice.
pub(crate) const ALLOWED: [&str; 11] = [
    "0BSD",
    "MIT",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "MIT-0",
    "NCSA",
    "Unicode-3.0",
    "Zlib",
];

/// Whether the expression can be satisfied with allowed licences alone. An unreadable one cannot.
pub(crate) fn allowed(expression: &str) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    either(&mut rest).is_some_and(|holds| holds && rest.is_empty())
}

fn either(words: &mut &[&str]) -> Option<bool> {
    let mut holds = both(words)?;
    while take(words, "OR") {
        holds |= both(words)?;
    }
    Some(holds)
}

fn both(words: &mut &[&str]) -> Option<bool> {
    let mut holds = one(words)?;
    while take(words, "AND") {
        holds &= one(words)?;
    }
    Some(holds)
}

fn one(words: &mut &[&str]) -> Option<bool> {
    if take(words, "(") {
        let holds = either(words)?;
        return take(words, ")").then_some(holds);
    }
    let (name, rest) = words.split_first()?;
    *words = rest;
    if take(words, "WITH") {
        let (exception, rest) = words.split_first()?;
        *words = rest;
        return Some(ALLOWED.contains(&format!("{name} WITH {exception}").as_str()));
    }
    Some(ALLOWED.contains(name))
}

fn take(words: &mut &[&str], word: &str) -> bool {
    match words.split_first() {
        Some((first, rest)) if *first == word => {
            *words = rest;
            true
        }
        _ => false,
    }
}

#[test]
fn an_expression_holds_when_one_of_its_choices_does() {
    assert!(allowed("MIT OR Apache-2.0"));
    assert!(allowed("GPL-3.0 OR MIT"));
    assert!(allowed("Unlicense/MIT"));
    assert!(allowed("(MIT OR GPL-3.0) AND Unicode-3.0"));
    assert!(allowed("Apache-2.0 WITH LLVM-exception"));
}

#[test]
fn an_expression_fails_when_a_part_that_is_needed_does() {
    assert!(!allowed("GPL-3.0-only"));
    assert!(!allowed("MIT AND GPL-3.0-only"));
    assert!(!allowed("ISC AND (MPL-2.0 OR GPL-2.0-only)"));
    assert!(!allowed("GPL-2.0-only WITH Classpath-exception-2.0"));
}

#[test]
fn an_unreadable_expression_fails() {
    for expression in ["", "MIT OR", "(MIT", "MIT Apache-2.0", "MIT)"] {
        assert!(!allowed(expression), "{expression}");
    }
}
