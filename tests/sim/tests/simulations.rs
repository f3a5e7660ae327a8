//! What the simulator itself promises, and the inputs that are kept.

use std::fs;

use sim::{corpus, run, seeds, shrink::shrink};

#[test]
fn every_kept_input_holds_and_tells_the_story_that_it_was_kept_for() {
    let kept = corpus::all().unwrap();
    assert!(kept.len() >= 3, "the corpus is found");
    for input in kept {
        let name = input.path.display().to_string();
        assert!(input.faithful, "{name}: its bytes tell another story now");
        let broken = run(&input.bytes).broken;
        assert!(broken.is_none(), "{name}: {broken:?}");
    }
}

/// As it is the one that moved, it has the first turn.
#[test]
fn a_machine_that_its_router_remembers_at_another_address_is_met_in_its_first_turn() {
    let kept = corpus::read(&corpus::folder().join("a_router_that_remembers_who_was_there.seed")).unwrap();
    let met = run(&kept.bytes).met;
    let (times, longest) = (met.count(), met.percentile(100));
    assert!(times == 2 && (10..=37).contains(&longest.as_secs()), "{times} {longest:?}");
}

#[test]
fn the_first_seeds_hold() {
    for seed in 0..300 {
        let broken = run(&seeds::input(seed)).broken;
        assert!(broken.is_none(), "seed {seed}: {broken:?}");
    }
}

#[test]
fn the_same_bytes_are_the_same_simulation() {
    for seed in 1_000..1_040 {
        let input = seeds::input(seed);
        let (one, other) = (run(&input), run(&input));
        assert_eq!(
            (one.print, one.datagrams, one.time),
            (other.print, other.datagrams, other.time),
            "{seed}"
        );
    }
}

#[test]
fn any_bytes_are_a_simulation() {
    for input in [&[][..], &[0], &[255; 7], &[255; 200], &[7; 64]] {
        assert!(run(input).broken.is_none(), "{input:?}");
    }
}

#[test]
fn a_kept_file_reads_as_the_bytes_that_it_was_written_from() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("an_input.seed");
    let input = seeds::input(5);
    fs::write(&path, corpus::write(&input, "Why.")).unwrap();
    let kept = corpus::read(&path).unwrap();
    assert!(kept.faithful && kept.bytes == input);
    let another = fs::read_to_string(&path).unwrap().replacen("machine 0", "machine 9", 1);
    fs::write(&path, another).unwrap();
    assert!(!corpus::read(&path).unwrap().faithful);
}

#[test]
fn shrinking_leaves_what_matters() {
    let input: Vec<u8> = (0..60).collect();
    let smaller = shrink(&input, |bytes| bytes.contains(&37) && bytes.len() >= 3);
    assert_eq!(smaller.len(), 3);
    assert!(smaller.contains(&37));
}
