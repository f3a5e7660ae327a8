//! What a role of Tacet consists of, once for `install`, `uninstall` and `dist`.
//!
//! A role is staged: a folder with `root/`, in which each file lies where it is to be, with `install.sh`, `uninstall.sh`,
//! what they share (`options.sh`) and `about`, which tells the two what they have to know. A tarball is such a folder, and so is what `cargo xtask install`
//! runs: there is one way to be installed.

use std::{
    env::consts::ARCH,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use ::tests::binaries;
use anyhow::{Context as _, Result, bail};

use crate::root;

/// One of the three things that a computer can be.
pub(crate) struct Role {
    /// What it is called.
    pub(crate) name: &'static str,
    /// Its programs, by the name under which they are built.
    programs: &'static [&'static str],
    /// Files below `packaging/`, and where they go below `/usr/local`.
    configuration: &'static [(&'static str, &'static str)],
    unit: &'static str,
    accounts: &'static str,
    /// Folders in which it keeps what cannot be made again.
    state: &'static str,
    /// Files that a person writes for it.
    settings: &'static str,
    /// What its unit makes, and removes when it ends.
    runtime: &'static str,
    /// The file without which its unit cannot start.
    needs: &'static str,
    /// What is lost by a purge.
    keeps: &'static str,
    /// What to type once it is installed.
    first: &'static str,
}

/// All of them.
pub(crate) const ROLES: [Role; 3] = [
    Role {
        name: "machine",
        programs: &["vpnd", "vpnctl"],
        configuration: &[
            ("bin/vpnd-device", "bin/vpnd-device"),
            ("systemd/vpnd.service", "lib/systemd/system/vpnd.service"),
            ("sysusers.d/tacet-machine.conf", "lib/sysusers.d/tacet-machine.conf"),
            ("sysctl.d/tacet.conf", "lib/sysctl.d/tacet-machine.conf"),
        ],
        unit: "vpnd.service",
        accounts: "tacet",
        state: "var/lib/tacet",
        settings: "etc/tacet/vpnd.env etc/tacet/proxy",
        runtime: "run/tacet",
        needs: "",
        keeps: "keys, networks and options of this machine, in /var/lib/tacet and /etc/tacet",
        first: "  systemctl enable --now vpnd\n  vpnctl --help",
    },
    Role {
        name: "coordinator",
        programs: &["coordinator"],
        configuration: &[
            ("systemd/tacet-coordinator.service", "lib/systemd/system/tacet-coordinator.service"),
            ("sysusers.d/tacet-coordinator.conf", "lib/sysusers.d/tacet-coordinator.conf"),
            ("tmpfiles.d/tacet.conf", "lib/tmpfiles.d/tacet-coordinator.conf"),
            ("sysctl.d/tacet.conf", "lib/sysctl.d/tacet-coordinator.conf"),
        ],
        unit: "tacet-coordinator.service",
        accounts: "tacet-coordinator",
        state: "var/lib/tacet-coordinator",
        settings: "etc/tacet/coordinator.env",
        runtime: "",
        needs: "etc/tacet/coordinator.env",
        keeps: "accounts, rosters and keys, in /var/lib/tacet-coordinator and /etc/tacet/coordinator.env",
        first: "  echo PUBLIC_URL=https://NAME-OR-ADDRESS > /etc/tacet/coordinator.env\n  systemctl enable --now tacet-coordinator\n  tacet-coordinator enrol",
    },
    Role {
        name: "relay",
        programs: &["relay"],
        configuration: &[
            ("systemd/tacet-relay.service", "lib/systemd/system/tacet-relay.service"),
            ("sysusers.d/tacet-relay.conf", "lib/sysusers.d/tacet-relay.conf"),
            ("tmpfiles.d/tacet.conf", "lib/tmpfiles.d/tacet-relay.conf"),
            ("sysctl.d/tacet.conf", "lib/sysctl.d/tacet-relay.conf"),
        ],
        unit: "tacet-relay.service",
        accounts: "tacet-relay",
        state: "",
        settings: "etc/tacet/relay.key etc/tacet/relay.env",
        runtime: "",
        needs: "etc/tacet/relay.key",
        keeps: "its key and options, /etc/tacet/relay.key and /etc/tacet/relay.env",
        first: "  tacet-coordinator relay-key --url https://NAME-OR-ADDRESS > relay.key    (on the coordinator)\n  install -m 600 relay.key /etc/tacet/relay.key    (here)\n  systemctl enable --now tacet-relay",
    },
];

/// Where completions go, by shell.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "share/bash-completion/completions/vpnctl"),
    ("zsh", "share/zsh/site-functions/_vpnctl"),
    ("fish", "share/fish/vendor_completions.d/vpnctl.fish"),
];

impl Role {
    /// Stages it in `folder`, with the programs of the folder `built`.
    ///
    /// # Errors
    /// If a program leaks on purpose, or a file cannot be copied.
    pub(crate) fn stage(&self, built: &Path, folder: &Path) -> Result<()> {
        let local = folder.join("root/usr/local");
        for program in self.programs {
            let (from, to) = (built.join(program), local.join("bin").join(installed(program)));
            if binaries::leaks(&from)? {
                bail!(
                    "{program} leaks on purpose, for the canary audit: build it anew without the feature `leaks`"
                );
            }
            put(&from, &to, true)?;
        }
        let packaging = root().join("packaging");
        for (from, to) in self.configuration {
            put(&packaging.join(from), &local.join(to), to.starts_with("bin/"))?;
        }
        if self.programs.contains(&"vpnctl") {
            self.stage_help(&built.join("vpnctl"), &local)?;
        }
        let documents = local.join("share/doc").join(format!("tacet-{}", self.name));
        for licence in ["LICENSE-MIT", "LICENSE-APACHE"] {
            put(&root().join(licence), &documents.join(licence), false)?;
        }
        let readme = packaging.join(format!("README-{}.md", self.name));
        put(&readme, &documents.join("README.md"), false)?;
        put(&readme, &folder.join("README.md"), false)?;
        put(&packaging.join("install.sh"), &folder.join("install.sh"), true)?;
        fs::write(folder.join("about"), self.about())?;
        fs::set_permissions(folder.join("about"), fs::Permissions::from_mode(0o644))?;
        // What it takes to go again stays with it.
        let own = local.join("lib/tacet").join(self.name);
        put(&packaging.join("uninstall.sh"), &folder.join("uninstall.sh"), true)?;
        put(&packaging.join("uninstall.sh"), &own.join("uninstall.sh"), true)?;
        for folder in [folder, &own] {
            put(&packaging.join("options.sh"), &folder.join("options.sh"), false)?;
        }
        put(&folder.join("about"), &own.join("about"), false)
    }

    /// Whether it is installed below `root`.
    pub(crate) fn is_installed(&self, root: &Path) -> bool {
        root.join("usr/local/lib/tacet").join(self.name).join("installed").exists()
    }

    fn stage_help(&self, vpnctl: &Path, local: &Path) -> Result<()> {
        for (shell, to) in COMPLETIONS {
            let said = Command::new(vpnctl).args(["completions", shell]).output()?;
            if !said.status.success() {
                bail!("vpnctl did not write its completions for {shell}");
            }
            let to = local.join(to);
            make_folder_of(&to)?;
            fs::write(&to, said.stdout)?;
        }
        let manual = local.join("share/man/man1");
        fs::create_dir_all(&manual)?;
        if !Command::new(vpnctl).arg("man").arg(&manual).output()?.status.success() {
            bail!("vpnctl did not write its manual pages");
        }
        Ok(())
    }

    /// What install.sh and uninstall.sh read: variables of a shell.
    fn about(&self) -> String {
        let program = installed(self.programs[0]);
        let pairs = [
            ("role", self.name),
            ("version", env!("CARGO_PKG_VERSION")),
            ("architecture", ARCH),
            ("unit", self.unit),
            ("program", program),
            ("needs", self.needs),
            ("accounts", self.accounts),
            ("state", self.state),
            ("settings", self.settings),
            ("runtime", self.runtime),
            ("keeps", self.keeps),
            ("first", self.first),
        ];
        pairs.map(|(name, value)| format!("{name}='{value}'\n")).concat()
    }
}

/// The name under which a program is installed.
fn installed(program: &str) -> &'static str {
    let found = binaries::PROGRAMS.iter().find(|(built, _)| *built == program);
    found.map(|(_, installed)| *installed).expect("a role's programs are among those that are built")
}

fn put(from: &Path, to: &Path, runs: bool) -> Result<()> {
    make_folder_of(to)?;
    fs::copy(from, to).with_context(|| format!("{} cannot be copied", from.display()))?;
    Ok(fs::set_permissions(to, fs::Permissions::from_mode(if runs { 0o755 } else { 0o644 }))?)
}

fn make_folder_of(file: &Path) -> Result<()> {
    Ok(fs::create_dir_all(file.parent().context("a file is in a folder")?)?)
}

/// The folder of the programs to be installed: of the release, which is built first unless `TACET_BIN_DIR` says where
/// programs are.
///
/// # Errors
/// If the build fails.
pub(crate) fn programs(build: impl FnOnce() -> Result<PathBuf>) -> Result<PathBuf> {
    match std::env::var_os(binaries::FOLDER) {
        Some(_) => Ok(binaries::folder()?),
        None => build(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_program_every_unit_and_every_file_of_packaging_is_of_a_role() {
        let mut missing: Vec<String> =
            binaries::PROGRAMS.iter().map(|(built, _)| (*built).to_owned()).collect();
        missing.retain(|program| !ROLES.iter().any(|role| role.programs.contains(&program.as_str())));
        for folder in ["bin", "systemd", "sysusers.d", "tmpfiles.d", "sysctl.d"] {
            for entry in fs::read_dir(root().join("packaging").join(folder)).unwrap() {
                let file = format!("{folder}/{}", entry.unwrap().file_name().to_str().unwrap());
                if !ROLES.iter().any(|role| role.configuration.iter().any(|(from, _)| *from == file)) {
                    missing.push(file);
                }
            }
        }
        assert!(missing.is_empty(), "{missing:?}");
    }

    #[test]
    fn no_two_roles_install_the_same_file() {
        let places = ROLES.iter().flat_map(|role| role.configuration.iter().map(|(_, to)| *to));
        let mut places: Vec<&str> =
            places.chain(ROLES.iter().flat_map(|role| role.programs.iter().copied())).collect();
        let all = places.len();
        places.sort_unstable();
        places.dedup();
        assert_eq!(places.len(), all);
    }

    #[test]
    fn what_a_shell_reads_of_a_role_needs_no_escape() {
        for role in ROLES {
            let about = role.about();
            assert_eq!(about.matches('\'').count(), 2 * about.matches("='").count(), "{about}");
            for account in role.accounts.split(' ') {
                let made = root().join("packaging/sysusers.d").join(format!("tacet-{}.conf", role.name));
                let made = fs::read_to_string(made).unwrap();
                assert!(
                    made.contains(&format!("\nu {account} ")) || made.starts_with(&format!("u {account} "))
                );
            }
        }
    }
}
