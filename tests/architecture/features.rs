//! That the logging crates are built with every level off, in each program, however it is built: alone or with all.

use std::{path::Path, process::Command};

/// Cargo's own word on the features of a crate: `log v0.4.1 release_max_level_off,std`.
fn features(selection: &[&str], name: &str) -> Option<String> {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "--locked",
            "-e",
            "normal,build,features",
            "--format",
            "{p} {f}",
            "-i",
            name,
        ])
        .args(selection)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap())
        .output()
        .unwrap();
    if !output.status.success() {
        // A program without the crate.
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("did not match any packages"), "{said}");
        return None;
    }
    String::from_utf8_lossy(&output.stdout).lines().next().map(str::to_owned)
}

#[test]
fn logging_is_compiled_out_of_every_program() {
    let mut there = 0;
    for selection in [&["--workspace"][..], &["-p", "vpnd"], &["-p", "coordinator"], &["-p", "relay"]] {
        for name in ["log", "tracing"] {
            let Some(line) = features(selection, name) else { continue };
            let features = line.rsplit_once(' ').map_or("", |(_, features)| features);
            let off = |feature: &str| feature == "release_max_level_off" || feature == "max_level_off";
            assert!(features.split(',').any(off), "{selection:?}: {line}");
            there += 1;
        }
    }
    assert!(there >= 6, "vpnd, coordinator and the whole have both crates: {there}");
}

#[test]
fn nothing_that_is_built_without_asking_for_it_has_a_clock_that_stands_still() {
    let stub = ["mock_instant", "sim-noise", "sim-curve"];
    for selection in [&["-p", "vpnd"][..], &["-p", "coordinator"], &["-p", "relay"], &["-p", "vpnctl"]] {
        for name in stub {
            assert!(features(selection, name).is_none(), "{selection:?} must not need {name}");
        }
    }
    // Nor do all crates together, whose features are one; the simulator alone has its stub.
    assert!(features(&["--workspace"], "mock_instant").is_none());
    assert!(
        features(&["-p", "sim", "--features", "real"], "mock_instant").is_some(),
        "the question is asked rightly"
    );
}
