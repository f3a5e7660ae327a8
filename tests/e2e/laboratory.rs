//! The laboratory itself: it comes down whatever happens, and its computers are apart.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use tests::{Lab, wait};

fn namespaces(run: &str) -> usize {
    let listed = Command::new("ip").args(["netns", "list"]).output().unwrap();
    String::from_utf8_lossy(&listed.stdout)
        .lines()
        .filter(|line| line.contains(&format!("nl-{run}-")))
        .count()
}

#[test]
fn hosts_have_their_own_network_name_and_folders() {
    let lab = Lab::up("cloud=none,home=easy").unwrap();
    let (cloud, home) = (lab.host("cloud-1"), lab.host("home-1"));
    assert_eq!(home.run("hostname", &[]).unwrap(), "home-1");
    home.run("sh", &["-c", "echo hers > /var/lib/tacet/note"]).unwrap();
    assert!(!cloud.output("cat", &["/var/lib/tacet/note"]).unwrap().status.success());
    assert_eq!(home.run("cat", &["/var/lib/tacet/note"]).unwrap(), "hers");
    home.run("ping", &["-n", "-c", "1", "-W", "2", &cloud.ipv4().unwrap().to_string()]).unwrap();
    assert!(home.ipv4().unwrap().is_private());
}

#[test]
fn a_dropped_laboratory_leaves_nothing() {
    let lab = Lab::up("home=easy").unwrap();
    let (run, folder) = (lab.run().to_owned(), lab.folder().to_owned());
    let mut left_running = lab.host("home-1").command("sleep").unwrap().arg("600").spawn().unwrap();
    assert!(namespaces(&run) > 0);
    drop(lab);
    assert!(!left_running.wait().unwrap().success(), "it was killed");
    assert_eq!(namespaces(&run), 0);
    assert!(!folder.exists() && !Path::new("/run/natlab").join(&run).exists());
}

/// Plays both parts: the owner, in a process of its own, and whoever kills it.
#[test]
fn a_laboratory_whose_owner_is_killed_comes_down_by_itself() {
    const OWNER: &str = "TACET_TEST_OWNER_WRITES_TO";
    if let Some(file) = std::env::var_os(OWNER) {
        let lab = Lab::up("home=easy").unwrap();
        fs::write(file, lab.run()).unwrap();
        std::thread::sleep(wait::SOON);
        unreachable!("the owner is killed before");
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    let run = || fs::read_to_string(file.path()).unwrap();
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "laboratory::a_laboratory_whose_owner_is_killed_comes_down_by_itself"])
        .env(OWNER, file.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    wait::until("the other laboratory is up", wait::SOON, || !run().is_empty()).unwrap();
    assert!(namespaces(&run()) > 0);
    owner.kill().unwrap();
    owner.wait().unwrap();
    let folder = std::env::temp_dir().join(format!("tacet-lab-{}", run()));
    wait::until("it is gone", wait::SOON, || namespaces(&run()) == 0 && !folder.exists()).unwrap();
}
