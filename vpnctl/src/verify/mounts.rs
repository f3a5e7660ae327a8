//! On what kind of file system a process keeps its files.
//!
//! What is deleted is overwritten where it stood (decision 010). That erases nothing where the file system writes
//! elsewhere instead.

use std::collections::BTreeMap;

use super::{
    Finding, Standing,
    kernel::{Kernel, Kind},
};

const POINT: &str = "mounts";

/// File systems that live in memory.
const IN_MEMORY: [&str; 2] = ["tmpfs", "ramfs"];

/// File systems on a disk that put a changed block where the old one was.
const IN_PLACE: [&str; 5] = ["ext4", "ext3", "ext2", "xfs", "vfat"];

/// A line of `/proc/PID/mountinfo`: proc(5).
struct Mount {
    device: String,
    place: String,
    kind: String,
    options: String,
}

/// A point for every file system on which the process holds a file of its own open.
pub(super) fn of_files(kernel: &Kernel, of: &'static str, pid: u32) -> Vec<Finding> {
    let mounts = mounts(kernel, pid);
    let mut seen = BTreeMap::new();
    for descriptor in kernel.descriptors(pid).unwrap_or_default() {
        // Standard output may go anywhere, and has a row of its own.
        if descriptor.number > 2
            && matches!(descriptor.kind, Kind::File { writable: true, .. })
            && let Some(id) = mount_of(kernel, pid, descriptor.number)
            && let Some(mount) = mounts.get(&id)
        {
            seen.insert(id, judge(kernel, mount));
        }
    }
    if seen.is_empty() {
        seen.insert(
            String::new(),
            (Standing::Warns, "none of its files can be seen".to_owned(), Some("run it by its unit")),
        );
    }
    let finding = |(standing, seen, next)| Finding { of, pid: Some(pid), point: POINT, standing, seen, next };
    seen.into_values().map(finding).collect()
}

fn judge(kernel: &Kernel, mount: &Mount) -> (Standing, String, Option<&'static str>) {
    let Mount { place, kind, options, .. } = mount;
    if IN_MEMORY.contains(&kind.as_str()) {
        return (Standing::Holds, format!("its files are in memory ({kind} at {place})"), None);
    }
    if is_encrypted(kernel, mount) {
        return (Standing::Holds, format!("its files are on an encrypted disk ({kind} at {place})"), None);
    }
    if !IN_PLACE.contains(&kind.as_str()) {
        let seen = format!(
            "its files are on {kind} (at {place}), which may keep copies of what is deleted and overwritten"
        );
        let next =
            "put them on ext4 or XFS, or on an encrypted disk; snapshots and backups keep what they have";
        return (Standing::Warns, seen, Some(next));
    }
    if options.split(',').any(|option| option == "data=journal") {
        let seen = format!("the journal of {kind} at {place} keeps copies of what is written");
        return (Standing::Warns, seen, Some("mount it without data=journal"));
    }
    (Standing::Holds, format!("its files are overwritten where they stand ({kind} at {place})"), None)
}

/// Whether the device itself is dm-crypt's; of what lies beneath it the kernel tells no more than that.
fn is_encrypted(kernel: &Kernel, mount: &Mount) -> bool {
    let uuid = kernel.text(&format!("/sys/dev/block/{}/dm/uuid", mount.device));
    uuid.is_some_and(|uuid| uuid.starts_with("CRYPT-"))
}

/// The mount in which an open file is.
fn mount_of(kernel: &Kernel, pid: u32, number: u32) -> Option<String> {
    let text = kernel.text(&format!("/proc/{pid}/fdinfo/{number}"))?;
    text.lines().find_map(|line| line.strip_prefix("mnt_id:")).map(|id| id.trim().to_owned())
}

/// The mounts that a process sees, by their ids.
fn mounts(kernel: &Kernel, pid: u32) -> BTreeMap<String, Mount> {
    let text = kernel.text(&format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    text.lines().filter_map(mount).collect()
}

/// `id parent device root place options [optional ...] - kind source options-of-the-file-system`
fn mount(line: &str) -> Option<(String, Mount)> {
    let (here, there) = line.split_once(" - ")?;
    let (here, there): (Vec<&str>, Vec<&str>) = (here.split(' ').collect(), there.split(' ').collect());
    let mount = Mount {
        device: (*here.get(2)?).to_owned(),
        place: (*here.get(4)?).to_owned(),
        kind: (*there.first()?).to_owned(),
        options: (*there.get(2)?).to_owned(),
    };
    Some(((*here.first()?).to_owned(), mount))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink, path::Path};

    use super::*;

    /// A `/proc` in which process 7 has its lock open in a mount of this kind.
    fn host(kind: &str, options: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let process = root.path().join("proc/7");
        for folder in ["fd", "fdinfo"] {
            fs::create_dir_all(process.join(folder)).unwrap();
        }
        symlink("/var/lib/tacet/lock", process.join("fd/9")).unwrap();
        fs::write(process.join("fdinfo/9"), "pos:\t0\nflags:\t0100001\nmnt_id:\t41\nino:\t5\n").unwrap();
        let line = format!("41 22 253:3 /x /var/lib/tacet rw shared:1 - {kind} /dev/mapper/a rw,{options}\n");
        fs::write(process.join("mountinfo"), format!("22 1 8:1 / / rw - ext4 /dev/sda1 rw\n{line}")).unwrap();
        root
    }

    fn seen(root: &Path) -> (Standing, String) {
        let mut all = of_files(&Kernel::at(root), "control", 7);
        assert_eq!(all.len(), 1);
        let finding = all.remove(0);
        assert_eq!(finding.next.is_some(), finding.standing != Standing::Holds);
        (finding.standing, finding.seen)
    }

    #[test]
    fn a_file_system_that_writes_elsewhere_than_where_something_stood_is_told() {
        for (kind, options, standing) in [
            ("ext4", "relatime", Standing::Holds),
            ("xfs", "attr2", Standing::Holds),
            ("tmpfs", "size=1k", Standing::Holds),
            ("ext4", "data=journal", Standing::Warns),
            ("btrfs", "ssd", Standing::Warns),
            ("overlay", "lowerdir=/a", Standing::Warns),
            ("nfs4", "vers=4.2", Standing::Warns),
        ] {
            let root = host(kind, options);
            let (found, text) = seen(root.path());
            assert_eq!(found, standing, "{kind} {options}");
            assert!(text.contains(kind) && text.contains("/var/lib/tacet"), "{text}");
        }
    }

    #[test]
    fn on_an_encrypted_disk_any_file_system_will_do() {
        let root = host("btrfs", "ssd");
        let device = root.path().join("sys/dev/block/253:3/dm");
        fs::create_dir_all(&device).unwrap();
        fs::write(device.join("uuid"), "LVM-abc\n").unwrap();
        assert_eq!(seen(root.path()).0, Standing::Warns);
        fs::write(device.join("uuid"), "CRYPT-LUKS2-abc\n").unwrap();
        assert_eq!(seen(root.path()).0, Standing::Holds);
    }

    #[test]
    fn a_process_whose_files_cannot_be_seen_is_not_called_sound() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(seen(root.path()).0, Standing::Warns);
    }
}
