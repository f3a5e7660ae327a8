//! The paths that control keeps.
//!
//! A grant is for a file or folder as it is when the walls go up, whatever lies at its path later. What other programs
//! replace while control runs (`resolv.conf` at each change of network, certificates, the user database) is therefore
//! granted by the folder it lies in: all of `/etc`, to read.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use sandbox::{
    SandboxError,
    files::{self, Grant, Reach},
};

/// Where control keeps what is its own.
#[derive(Clone, Copy)]
pub struct Places<'a> {
    /// The state directory.
    pub state: &'a Path,
    /// The socket of the local API, which control removes when it ends.
    pub socket: &'a Path,
}

/// What the system itself offers to every program that resolves names and checks certificates.
const READ: [&str; 4] =
    ["/etc", "/proc/sys/net", "/usr/share/ca-certificates", "/usr/local/share/ca-certificates"];

/// Files that may be links out of `/etc`, into a folder where another program replaces them.
const LINKS: [&str; 8] = [
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// With which an operator names other certificates, one file and a list of folders.
const CERTIFICATES: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// Devices: the folder of the TUN device, so that it may appear later, and what a child's standard streams lead to.
const DEVICES: [&str; 2] = ["/dev/net", NULL];

const NULL: &str = "/dev/null";

/// This program, whatever file lies at its path by now.
const SELF: &str = "/proc/self/exe";

/// Control connects to coordinators and relays and answers its peers' questions for the roster, both over TCP; unix
/// sockets are how the host's resolvers and its service manager are spoken to.
const REACH: Reach = Reach { connect: true, listen: Some(proto::sync::PORT), unix_sockets: true };

pub(super) fn close(places: &Places<'_>) -> Result<(), SandboxError> {
    let granted = granted(places);
    let granted: Vec<(&Path, Grant)> = granted.iter().map(|(path, grant)| (path.as_path(), *grant)).collect();
    files::confine(&granted, REACH)
}

/// For a process that starts this program again and removes its socket, and has nothing else to do with files.
pub(super) fn close_all_but_program(socket_folder: &Path) -> Result<(), SandboxError> {
    let mut granted = program();
    granted.push((socket_folder.to_owned(), Grant::Remove));
    granted.push((NULL.into(), Grant::Device));
    let granted: Vec<(&Path, Grant)> = granted.iter().map(|(path, grant)| (path.as_path(), *grant)).collect();
    files::confine(&granted, Reach::NONE)
}

fn granted(places: &Places<'_>) -> Vec<(PathBuf, Grant)> {
    let mut granted = vec![(places.state.to_owned(), Grant::Write)];
    granted.extend(program());
    granted.extend(places.socket.parent().map(|folder| (folder.to_owned(), Grant::Remove)));
    granted.extend(DEVICES.map(|device| (device.into(), Grant::Device)));
    granted.extend(READ.map(|path| (path.into(), Grant::Read)));
    granted.extend(LINKS.iter().filter_map(folder_of).map(|folder| (folder, Grant::Read)));
    for name in CERTIFICATES {
        let paths = env::var_os(name).unwrap_or_default();
        granted.extend(env::split_paths(&paths).map(|path| (path, Grant::Read)));
    }
    granted
}

/// What it takes to start this program again.
fn program() -> Vec<(PathBuf, Grant)> {
    let mut granted = vec![(SELF.into(), Grant::Execute)];
    for file in libraries() {
        granted.extend(folder_of(&file).map(|folder| (folder, Grant::Read)));
        if is_loader(&file) {
            granted.push((file, Grant::Execute));
        }
    }
    granted
}

/// The folder that a file really lies in, unless that is the root.
fn folder_of(path: impl AsRef<Path>) -> Option<PathBuf> {
    let folder = fs::canonicalize(path).ok()?.parent()?.to_owned();
    folder.parent().is_some().then_some(folder)
}

/// The loader and the libraries of this program: what a data path is started with, and what resolves names.
fn libraries() -> Vec<PathBuf> {
    let own = fs::read_link(SELF).unwrap_or_default();
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    // Address, rights, offset, device, inode, path.
    let mapped = maps.lines().filter_map(|line| line.split_ascii_whitespace().nth(5));
    let mut files: Vec<PathBuf> =
        mapped.filter(|path| path.starts_with('/')).map(PathBuf::from).filter(|path| *path != own).collect();
    files.sort();
    files.dedup();
    files
}

/// `ld-linux-x86-64.so.2`, `ld-musl-aarch64.so.1` and their like.
fn is_loader(file: &Path) -> bool {
    file.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"ld"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_may_be_started_again_and_nothing_else() {
        let places = Places { state: Path::new("/s"), socket: Path::new("/r/sock") };
        let all = granted(&places);
        let started: Vec<&PathBuf> =
            all.iter().filter(|(_, grant)| *grant == Grant::Execute).map(|(path, _)| path).collect();
        assert_eq!(started.len(), 2, "{started:?}");
        assert!(started[0] == Path::new(SELF) && is_loader(started[1]));
        let written: Vec<&PathBuf> =
            all.iter().filter(|(_, grant)| *grant == Grant::Write).map(|(path, _)| path).collect();
        assert_eq!(written, [Path::new("/s")]);
        assert!(all.contains(&("/r".into(), Grant::Remove)));
        assert!(all.iter().all(|(path, _)| path != Path::new("/")), "{all:?}");
    }
}
