//! System calls by number, with arguments that the type system knows nothing about: what an intruder has.

use std::ffi::c_long;

use nix::libc;

/// What came of a call.
pub(crate) type Outcome = Result<c_long, i32>;

/// An argument: a number, or the address of something.
pub(crate) trait Argument {
    fn word(self) -> usize;
}

impl Argument for i32 {
    fn word(self) -> usize {
        self as isize as usize
    }
}

impl Argument for usize {
    fn word(self) -> usize {
        self
    }
}

impl<T> Argument for *const T {
    fn word(self) -> usize {
        self as usize
    }
}

impl<T> Argument for *mut T {
    fn word(self) -> usize {
        self as usize
    }
}

/// `call!(SYS_write, fd, bytes.as_ptr(), 3)`
macro_rules! call {
    ($name:ident $(, $argument:expr)* $(,)?) => {
        $crate::kernel::make(nix::libc::$name, &[$($crate::kernel::Argument::word($argument)),*])
    };
}
pub(crate) use call;

pub(crate) fn make(number: c_long, arguments: &[usize]) -> Outcome {
    let mut words = [0; 6];
    words[..arguments.len()].copy_from_slice(arguments);
    let [a, b, c, d, e, f] = words;
    // SAFETY: the callers give addresses of live objects of the size that the call takes, or addresses that no object
    // has, and end the process after one call.
    #[allow(unsafe_code)]
    let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    if result == -1 { Err(nix::errno::Errno::last_raw()) } else { Ok(result) }
}

/// `getpid` through the 32-bit table, where a filter for the 64-bit one would see another call.
#[cfg(target_arch = "x86_64")]
pub(crate) fn getpid_of_i386() -> Outcome {
    let mut word: u64 = 20;
    // SAFETY: the call takes no argument and touches no memory; the kernel keeps every register but rax, r8 to r11.
    #[allow(unsafe_code)]
    unsafe {
        std::arch::asm!("int 0x80", inout("rax") word, out("r8") _, out("r9") _, out("r10") _, out("r11") _);
    }
    let word = word as i32;
    if word < 0 { Err(-word) } else { Ok(word.into()) }
}
