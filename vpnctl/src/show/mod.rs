//! How results look: one place for colours, tables, units, times and QR codes.

mod qr;
mod table;
mod text;
mod ui;

pub(crate) use qr::qr;
pub(crate) use table::{Cell, Table};
pub(crate) use text::{bytes, milliseconds, printable, until, utc};
pub(crate) use ui::{Style, Ui};
