//! What stays out of the swap where locked memory is limited.
//!
//! This file is its own test harness, because the heap that is locked is the one of a program's first thread: it answers
//! `--list` and a test's name as the usual one does. The tests change the whole process, and stand in their order.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on fails, and says so")]

use std::hint::black_box;

use nix::sys::resource::{Resource, setrlimit};
use sandbox::{capabilities, memory};

const NAME: &str = "under_a_limit_stack_and_heap_are_locked_and_both_go_on_growing";

/// The usual limit of a container or an ordinary user.
const LIMIT: u64 = 8 << 20;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |option: &str| arguments.iter().any(|argument| argument == option);
    let mut names = arguments.iter().filter(|argument| !argument.starts_with('-')).peekable();
    if has("--list") {
        if !has("--ignored") {
            println!("{NAME}: test");
        }
        return;
    }
    if names.peek().is_none() || names.any(|name| NAME.contains(name.as_str())) {
        under_a_limit_stack_and_heap_are_locked_and_both_go_on_growing();
        println!("test {NAME} ... ok");
    }
}

fn under_a_limit_stack_and_heap_are_locked_and_both_go_on_growing() {
    let before = Box::new(7_u8);
    setrlimit(Resource::RLIMIT_MEMLOCK, LIMIT, LIMIT).unwrap();
    capabilities::keep(&[]).unwrap();
    memory::lock().unwrap();
    let later: Vec<Box<[u8; 1_000]>> = (0..2_000).map(|_| Box::new([7; 1_000])).collect();
    let on_stack = 7_u8;
    for secret in [&raw const *before, later[0].as_ptr(), later[1_999].as_ptr(), &raw const on_stack] {
        assert!(locked(secret.addr()));
    }
    // Beyond the limit both go on, unlocked.
    let much: Vec<Box<[u8; 1_000]>> = (0..20_000).map(|_| Box::new([7; 1_000])).collect();
    assert!(much.len() == 20_000 && deep(1_000) > 0);
    assert!(!locked(much[19_999].as_ptr().addr()));
}

/// Uses a kilobyte of stack for each step.
fn deep(steps: usize) -> usize {
    let room = black_box([steps; 128]);
    if steps == 0 { room[0] } else { deep(steps - 1) + room[1] }
}

/// Whether the kernel says that the mapping which holds `address` is locked.
fn locked(address: usize) -> bool {
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut inside = false;
    for line in maps.lines() {
        let range = line.split_whitespace().next().and_then(|word| word.split_once('-'));
        let number = |text| usize::from_str_radix(text, 16);
        if let Some((Ok(low), Ok(high))) = range.map(|(low, high)| (number(low), number(high))) {
            inside = (low..high).contains(&address);
        }
        if let Some(flags) = line.strip_prefix("VmFlags:").filter(|_| inside) {
            return flags.split_whitespace().any(|flag| flag == "lo");
        }
    }
    panic!("nothing is mapped there");
}
