//! The Debian packages that the laboratory needs, and the TUN device.

use std::{
    collections::BTreeSet,
    env,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

/// A program that the laboratory runs, and the package that has it.
const NEEDED: [(&str, &str); 19] = [
    ("ip", "iproute2"),
    ("tc", "iproute2"),
    ("nft", "nftables"),
    ("ping", "iputils-ping"),
    ("jq", "jq"),
    ("iperf3", "iperf3"),
    ("python3", "python3"),
    ("unshare", "util-linux"),
    ("setpriv", "util-linux"),
    ("losetup", "mount"),
    ("mkfs.ext4", "e2fsprogs"),
    ("strace", "strace"),
    ("conntrack", "conntrack"),
    ("ss", "iproute2"),
    ("miniupnpd", "miniupnpd-nftables"),
    ("valgrind", "valgrind"),
    ("wg", "wireguard-tools"),
    ("wg-quick", "wireguard-tools"),
    ("wireguard-go", "wireguard-go"),
];

/// Makes sure that a laboratory can be built here: as root, with the programs and the TUN device. Installs what is
/// missing, and says so.
///
/// # Errors
/// What is missing and how to get it, where it cannot be installed from here.
pub(crate) fn prepare_lab() -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("a laboratory is built out of network namespaces, which needs root: run this as root");
    }
    let missing = missing(on_path);
    if !missing.is_empty() {
        install(&missing)?;
    }
    if !Path::new("/dev/net/tun").exists() {
        make_tun()?;
    }
    Ok(())
}

/// Packages of those programs that are not there.
fn missing(there: impl Fn(&str) -> bool) -> BTreeSet<&'static str> {
    NEEDED.iter().filter(|(program, _)| !there(program)).map(|(_, package)| *package).collect()
}

fn on_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn install(packages: &BTreeSet<&str>) -> Result<()> {
    let list = packages.iter().copied().collect::<Vec<_>>().join(" ");
    let line = format!("apt-get install -y --no-install-recommends {list}");
    if !on_path("apt-get") {
        bail!("missing: {list}. On Debian: {line}");
    }
    println!("missing: {list}\n$ apt-get update && {line}");
    for arguments in ["update", line.trim_start_matches("apt-get ")] {
        let done = Command::new("apt-get")
            .args(arguments.split(' '))
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .context("apt-get did not start")?;
        // An update may fail for one source of many: whether the install works decides.
        if !done.success() && arguments != "update" {
            bail!("these Debian packages could not be installed: {list}. By hand: {line}");
        }
    }
    Ok(())
}

fn make_tun() -> Result<()> {
    println!("/dev/net/tun is missing\n$ mkdir -p /dev/net && mknod /dev/net/tun c 10 200");
    let done = Command::new("sh")
        .args(["-c", "mkdir -p /dev/net && mknod -m 666 /dev/net/tun c 10 200 && : <>/dev/net/tun"])
        .status()
        .context("sh did not start")?;
    if !done.success() {
        bail!(
            "there is no TUN device here: load the kernel module (modprobe tun), or give the container /dev/net/tun"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::missing;

    #[test]
    fn a_package_is_named_once_for_all_its_programs() {
        let found = missing(|program| !["ip", "tc", "nft"].contains(&program));
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["iproute2", "nftables"]);
    }

    #[test]
    fn nothing_is_missing_where_everything_is() {
        assert!(missing(|_| true).is_empty());
    }
}
