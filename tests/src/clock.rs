//! A machine whose clock is wrong: one library, loaded before the C library, adds seconds to the time of day.

use std::{fs::File, os::unix::fs::FileExt as _, process::Command};

use crate::{Node, Result, Trouble, binaries::lab_file};

/// Where the seconds stand: control and data path may both read it, as they are started.
const OFFSET: &str = "/var/lib/tacet/clock";

/// The clock of one machine, for vpnd and its data path alone.
pub struct Clock(File);

impl Clock {
    /// Gives a machine a clock of its own from the next start of vpnd on, right until it is set. Its laboratory must keep
    /// changes apart ([`crate::Lab::keep_changes_apart`]): the loader is told in `/etc`.
    ///
    /// # Errors
    /// Without a C compiler.
    pub fn of(node: &mut Node) -> Result<Self> {
        node.host().run("true", &[])?; // makes its folders
        let library = node.host().folder().join("clock.so");
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", &format!("-DOFFSET=\"{OFFSET}\""), "-o"])
            .arg(&library)
            .arg(lab_file("clock.c"))
            .output()?;
        if !built.status.success() {
            let why = String::from_utf8_lossy(&built.stderr).into_owned();
            return Err(Trouble::new(format!("no clock was built: {why}")));
        }
        node.before(&format!("echo {} > /etc/ld.so.preload", library.display()));
        let clock = Self(File::options().create(true).truncate(true).write(true).open(node.state("clock"))?);
        clock.set(0)?;
        Ok(clock)
    }

    /// Sets it to so many seconds after the right time, or before it.
    ///
    /// # Errors
    /// If that cannot be written.
    pub fn set(&self, seconds: i64) -> Result<()> {
        Ok(self.0.write_all_at(&seconds.to_ne_bytes(), 0)?)
    }
}
