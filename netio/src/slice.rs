//! How long a thread may run before the kernel looks whose turn it is (Linux 6.12 and later, `sched_setattr(2)`).
//!
//! A thread that asks for long slices has late deadlines, so those whose packets it moves go first once they are woken:
//! the reader of a socket takes what is there before the buffer overflows. It gets no more of the processor by it,
//! and no less, and a processor that is idle takes it at once.

/// What is asked for, in nanoseconds. The kernel's own are 0.7 ms on one processor, 1.4 on two and 2.8 from eight on.
const LONG: u64 = 4_000_000;

/// Asks for long slices for the calling thread and those that it begins from now on. A kernel that knows no such thing, or a
/// container that forbids it, leaves everything as it was; so does a thread that somebody gave longer ones, or real time.
pub fn lengthen() {
    let Some(mut attributes) = read() else { return };
    let shares = [libc::SCHED_OTHER, libc::SCHED_BATCH].contains(&(attributes.sched_policy as i32));
    // Before 6.12 there is nothing to read.
    if shares && (1..LONG).contains(&attributes.sched_runtime) {
        attributes.sched_runtime = LONG;
        write(&attributes);
    }
}

/// The attributes of the calling thread, its niceness among them, which is to stay.
fn read() -> Option<libc::sched_attr> {
    // SAFETY: `sched_attr` is plain integers, for which all zeroes is a value.
    #[allow(unsafe_code)]
    let mut attributes: libc::sched_attr = unsafe { std::mem::zeroed() };
    let size = size_of::<libc::sched_attr>() as libc::c_uint;
    // SAFETY: the pointer leads to `size` bytes that outlive the call, and the kernel writes no more than that.
    #[allow(unsafe_code)]
    let failed = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0) };
    (failed == 0).then_some(attributes)
}

fn write(attributes: &libc::sched_attr) {
    // SAFETY: the pointer leads to attributes that say their own size and outlive the call, which only reads them.
    #[allow(unsafe_code)]
    unsafe {
        libc::syscall(libc::SYS_sched_setattr, 0, std::ptr::from_ref(attributes), 0)
    };
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_thread_and_those_it_begins_get_long_slices_and_keep_their_niceness() {
        let ran = thread::spawn(|| {
            let before = read().unwrap();
            let nicer = libc::sched_attr { sched_nice: (before.sched_nice + 1).min(19), ..before };
            write(&nicer);
            lengthen();
            let after = read().unwrap();
            assert_eq!(after.sched_nice, nicer.sched_nice);
            let inherited = thread::spawn(|| read().unwrap().sched_runtime).join().unwrap();
            // A kernel before 6.12 knows none.
            let expected = if before.sched_runtime == 0 { 0 } else { before.sched_runtime.max(LONG) };
            assert_eq!((after.sched_runtime, inherited), (expected, expected));
        });
        ran.join().unwrap();
    }

    #[test]
    fn longer_slices_than_that_are_left_alone() {
        let ran = thread::spawn(|| {
            let Some(before) = read().filter(|before| before.sched_runtime > 0) else { return };
            let longer = 3 * LONG;
            write(&libc::sched_attr { sched_runtime: longer, ..before });
            lengthen();
            assert_eq!(read().unwrap().sched_runtime, longer);
        });
        ran.join().unwrap();
    }
}
