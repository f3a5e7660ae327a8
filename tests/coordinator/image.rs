//! An ext4 file system in a file, to be read raw, filled up, or cut off from its power.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{Read, Write},
    path::{Path, PathBuf},
    process::Command,
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use tempfile::TempDir;

/// Bytes that are compared first; needles are at least as long.
const HEAD: usize = 8;

/// The file system. Dropping it unmounts it and removes its file, whatever happened.
pub(crate) struct Image {
    folder: TempDir,
}

impl Image {
    /// A fresh one of `size` bytes, mounted where this thread and the programs that it starts see it, and nobody else:
    /// a program that got mounts of its own meanwhile, as a laboratory's hosts do, would have this one too, and keep the
    /// file system in use while it is unmounted here.
    pub(crate) fn mounted(size: u64) -> Self {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        let image = Self { folder: tempfile::tempdir().unwrap() };
        File::create(image.file()).unwrap().set_len(size).unwrap();
        // All of it laid out at once, and nothing discarded: what was written stays where it was.
        let options = ["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard"];
        run(Command::new("mkfs.ext4").args(options).arg(image.file()));
        fs::create_dir(image.place()).unwrap();
        image.mount();
        image
    }

    /// The data directory on it.
    pub(crate) fn directory(&self) -> PathBuf {
        self.place().join("data")
    }

    /// The folder that it is mounted on.
    pub(crate) fn place(&self) -> PathBuf {
        self.folder.path().join("mounted")
    }

    pub(crate) fn mount(&self) {
        run(Command::new("mount")
            .args(["-t", "ext4", "-o", "loop,nodiscard"])
            .arg(self.file())
            .arg(self.place()));
    }

    pub(crate) fn unmount(&self) {
        run(Command::new("umount").arg(self.place()));
    }

    /// Stops the file system as a power cut does: what was not flushed to the disk is not on it. It has to be unmounted
    /// and mounted again.
    pub(crate) fn cut_power(&self) {
        // EXT4_IOC_SHUTDOWN with EXT4_GOING_FLAGS_NOLOGFLUSH (linux/fs/ext4/ext4.h).
        let script = "import fcntl, os, struct, sys\n\
            fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack('I', 2))";
        run(Command::new("python3").args(["-c", script]).arg(self.place()));
    }

    /// Lets the file system go read-only, as it does after an error of the disk. It has to be unmounted and mounted again.
    pub(crate) fn fail(&self) {
        run(Command::new("mount").args(["-o", "remount,errors=remount-ro"]).arg(self.place()));
        let mounts = fs::read_to_string("/proc/thread-self/mounts").unwrap();
        let place = self.place();
        let mut devices = mounts.lines().filter_map(|line| {
            let mut words = line.split(' ');
            let (device, on) = (words.next()?, words.next()?);
            (Path::new(on) == place).then(|| Path::new(device).file_name().unwrap().to_owned())
        });
        let device = devices.next().unwrap();
        fs::write(Path::new("/sys/fs/ext4").join(device).join("trigger_fs_error"), "a test\n").unwrap();
    }

    /// Which of the needles are anywhere in the unmounted image: in files, free blocks, or the file system's journal.
    pub(crate) fn find<'a>(&self, needles: &[(&'a str, Vec<u8>)]) -> Vec<&'a str> {
        let mut bytes = Vec::new();
        File::open(self.file()).unwrap().read_to_end(&mut bytes).unwrap();
        let mut heads: HashMap<&[u8], Vec<&(&str, Vec<u8>)>> = HashMap::new();
        for needle in needles {
            heads.entry(&needle.1[..HEAD]).or_default().push(needle);
        }
        let mut found = Vec::new();
        for (at, head) in bytes.windows(HEAD).enumerate() {
            // Most of a disk is zeros.
            if head[0] == 0 && head[HEAD - 1] == 0 {
                continue;
            }
            let here = heads.get(head).into_iter().flatten();
            found.extend(here.filter(|(_, needle)| bytes[at..].starts_with(needle)).map(|(what, _)| *what));
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("image")
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        // Lazily: a program that still runs on it after a failed test must not keep the loop device.
        let _ =
            Command::new("umount").arg("-l").arg(self.place()).stderr(std::process::Stdio::null()).status();
    }
}

/// Whether file systems can be mounted here: as root, where there are loop devices.
pub(crate) fn available() -> bool {
    let able = Command::new("losetup").arg("-f").output().is_ok_and(|output| output.status.success());
    if !able {
        let _ = writeln!(std::io::stdout(), "not tested here: that needs root and a loop device");
    }
    able
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Writes a file and removes it again, each on the disk.
pub(crate) fn write_and_remove(path: &Path, content: &[u8]) {
    fs::write(path, content).unwrap();
    File::open(path).unwrap().sync_all().unwrap();
    fs::remove_file(path).unwrap();
    File::open(path.parent().unwrap()).unwrap().sync_all().unwrap();
}
