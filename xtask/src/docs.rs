//! `docs`: writes docs/PRIVACY.md from the inventories and from the words in `privacy.md` beside this file.

use std::fs;

use toml::{Table, Value};

use crate::root;

const WORDS: &str = include_str!("privacy.md");

/// Where the words make room for the inventories.
const PLACE: &str = "<!-- inventories -->\n";

/// Every crate that might store something; the order of the document.
const COMPONENTS: [&str; 3] = ["vpnd", "coordinator", "relay"];

/// Writes it anew.
pub(crate) fn write() -> anyhow::Result<()> {
    Ok(fs::write(root().join("docs/PRIVACY.md"), privacy()?)?)
}

/// docs/PRIVACY.md as it should be.
fn privacy() -> anyhow::Result<String> {
    let mut inventories = String::new();
    for component in COMPONENTS {
        let text = fs::read_to_string(root().join(component).join("inventory.toml"))?;
        inventories += &section(&text.parse()?);
    }
    let words = WORDS.replace(PLACE, &inventories);
    Ok(format!(
        "<!-- Made by `cargo xtask docs`; edit xtask/src/privacy.md or an inventory.toml. -->\n\n{words}"
    ))
}

/// One component.
fn section(inventory: &Table) -> String {
    let text = |table: &Table, name: &str| {
        table.get(name).and_then(Value::as_str).unwrap_or_default().replace('|', "\\|")
    };
    let mut section = format!(
        "### {}: {}\n\n{}\n",
        text(inventory, "component"),
        text(inventory, "place"),
        text(inventory, "about")
    );
    let items: Vec<&Table> = inventory
        .get("item")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_table)
        .collect();
    if !items.is_empty() {
        section += "\n| where | what | what for | legal ground | how long | how fine | who can read it |\n\
                    |---|---|---|---|---|---|---|\n";
    }
    for item in items {
        let cells =
            ["field", "purpose", "basis", "retention", "granularity", "readers"].map(|name| text(item, name));
        section += &format!("| `{}` | {} |\n", text(item, "place"), cells.join(" | "));
    }
    section + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_what_the_inventories_say() {
        let there = fs::read_to_string(root().join("docs/PRIVACY.md")).unwrap();
        assert!(there == privacy().unwrap(), "docs/PRIVACY.md is out of date: cargo xtask docs");
    }

    #[test]
    fn every_item_has_a_row_with_every_cell() {
        let table: Table =
            "component = 'a'\nplace = '/x'\nabout = 'b'\n[[item]]\nplace = 'p'\nfield = 'f|g'\n\
                            purpose = '1'\nbasis = '2'\nretention = '3'\ngranularity = '4'\nreaders = '5'"
                .parse()
                .unwrap();
        assert!(section(&table).contains("| `p` | f\\|g | 1 | 2 | 3 | 4 | 5 |\n"));
    }
}
