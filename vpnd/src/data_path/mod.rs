//! The data path's own process.

use clap::Args;

/// `vpnd data-path`: started by vpnd alone, with its descriptors inherited by number.
#[derive(Args)]
pub struct Options {}

/// Runs the data path until control closes the pipe.
///
/// # Errors
/// If a descriptor is not what it should be.
pub fn run(_options: &Options) -> Result<(), std::io::Error> {
    Ok(())
}
