//! The system calls that a process may still make (seccomp).
//!
//! A filter sees the call's number and its six arguments as numbers, so that it can hold a call to certain descriptors
//! and flags, but not to what a pointer leads to. A call of another architecture's table ends the process.

use std::{collections::BTreeMap, ffi::c_long, io, os::fd::RawFd};

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

use crate::SandboxError;

/// What is demanded of one argument of a call, counted from 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Argument {
    /// It is this descriptor.
    Fd(u8, RawFd),
    /// It is one of the descriptors from the first to the last of these.
    Within(u8, RawFd, RawFd),
    /// It is this number.
    Is(u8, u32),
    /// It is a greater number, negative ones being the greatest.
    Above(u8, u32),
    /// It has all of these bits.
    With(u8, u32),
    /// It has none of these bits.
    Without(u8, u32),
}

impl Argument {
    /// It is one of these descriptors: alternatives, one for each run of numbers without a gap. A filter looks at them one after the
    /// other at every call, and at a run in two comparisons, however long it is.
    #[must_use]
    pub fn among(index: u8, fds: &[RawFd]) -> Vec<Self> {
        let mut fds = fds.to_vec();
        fds.sort_unstable();
        fds.dedup();
        let runs = fds.chunk_by(|fd, next| fd + 1 == *next);
        runs.map(|run| match (run[0], run[run.len() - 1]) {
            (first, last) if first == last => Self::Fd(index, first),
            (first, last) => Self::Within(index, first, last),
        })
        .collect()
    }
}

/// What happens at a call that a filter does not let pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Violation {
    /// The process ends at once, by `SIGSYS`.
    Kill,
    /// The call fails with this error number.
    Fail(i32),
}

/// A set of calls.
#[derive(Default)]
pub struct Calls {
    rules: BTreeMap<c_long, Vec<SeccompRule>>,
}

impl Calls {
    /// No calls.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What every process of ours lives from, whatever it does: the clock, chance, memory of its own that holds no code, its end.
    #[must_use]
    pub fn of_every_process() -> Self {
        const WITHOUT: [c_long; 6] = [
            libc::SYS_exit,
            libc::SYS_exit_group,
            libc::SYS_restart_syscall,
            libc::SYS_rt_sigreturn,
            libc::SYS_sched_yield,
            libc::SYS_sigaltstack,
        ];
        const CLOCK_AND_CHANCE: [c_long; 2] = [libc::SYS_clock_gettime, libc::SYS_getrandom];
        const MEMORY: [c_long; 4] = [libc::SYS_brk, libc::SYS_futex, libc::SYS_mremap, libc::SYS_munmap];
        const EXEC: u32 = libc::PROT_EXEC as u32;
        const ANONYMOUS: u32 = libc::MAP_ANONYMOUS as u32;
        const SHARED: u32 = libc::MAP_SHARED as u32;
        /// What an allocator tells the kernel about pages: that it is done with them, or how large they may be.
        const ADVICE: [i32; 4] =
            [libc::MADV_DONTNEED, libc::MADV_FREE, libc::MADV_HUGEPAGE, libc::MADV_NOHUGEPAGE];
        let calls = Self::new()
            .any(&WITHOUT)
            .any(&CLOCK_AND_CHANCE)
            .any(&MEMORY)
            // No code but the program's own, and no memory but its own.
            .only(
                &[libc::SYS_mmap],
                &[
                    Argument::Without(2, EXEC),
                    Argument::With(3, ANONYMOUS),
                    Argument::Without(3, SHARED),
                    Argument::Fd(4, -1),
                ],
            )
            .only(&[libc::SYS_mprotect], &[Argument::Without(2, EXEC)]);
        let advise = |calls: Self, advice: i32| {
            calls.only(&[libc::SYS_madvise], &[Argument::Is(2, advice.cast_unsigned())])
        };
        ADVICE.into_iter().fold(calls, advise)
    }

    /// Adds these, whatever their arguments.
    #[must_use]
    pub fn any(mut self, calls: &[c_long]) -> Self {
        self.rules.extend(calls.iter().map(|&call| (call, Vec::new())));
        self
    }

    /// Adds each of these where its arguments are as demanded. Said twice of a call, one of the two is enough; a call
    /// that was added by [`Calls::any`] must not be added here.
    #[must_use]
    pub fn only(mut self, calls: &[c_long], arguments: &[Argument]) -> Self {
        for &call in calls {
            self.rules.entry(call).or_default().push(rule(arguments));
        }
        self
    }

    /// Adds each of these on each of the descriptors, which are the calls' first argument.
    #[must_use]
    pub fn on(self, fds: &[RawFd], calls: &[c_long]) -> Self {
        Argument::among(0, fds).into_iter().fold(self, |all, fd| all.only(calls, &[fd]))
    }

    /// From now on this process, and what it starts, makes these calls and no others. Sets no_new_privs.
    ///
    /// # Errors
    /// [`SandboxError::NoSeccomp`].
    pub fn allow_only(self, violation: Violation) -> Result<(), SandboxError> {
        install(self.rules, violation.into(), SeccompAction::Allow)
    }

    /// From now on this process, and what it starts, makes all calls but these. Sets no_new_privs.
    ///
    /// # Errors
    /// [`SandboxError::NoSeccomp`].
    pub fn forbid(self, violation: Violation) -> Result<(), SandboxError> {
        install(self.rules, SeccompAction::Allow, violation.into())
    }
}

impl From<Violation> for SeccompAction {
    fn from(violation: Violation) -> Self {
        match violation {
            Violation::Kill => Self::KillProcess,
            Violation::Fail(errno) => Self::Errno(errno.unsigned_abs()),
        }
    }
}

/// Whether this kernel filters system calls and can end a process over one.
///
/// # Errors
/// [`SandboxError::NoSeccomp`].
pub fn available() -> Result<(), SandboxError> {
    let action: u32 = libc::SECCOMP_RET_KILL_PROCESS;
    // SAFETY: the operation reads the 32-bit number that it is given the address of, and changes nothing.
    #[allow(unsafe_code)]
    let known =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &raw const action) };
    if known == 0 { Ok(()) } else { Err(SandboxError::NoSeccomp) }
}

fn rule(arguments: &[Argument]) -> SeccompRule {
    // The kernel reads descriptors, protections and flags as 32-bit numbers, and ignores the upper half of an argument.
    let condition = |&argument: &Argument| {
        let (index, operator, value) = match argument {
            Argument::Within(index, first, last) => {
                return vec![
                    compare(index, SeccompCmpOp::Ge, first as u32),
                    compare(index, SeccompCmpOp::Le, last as u32),
                ];
            }
            Argument::Fd(index, fd) => (index, SeccompCmpOp::Eq, fd as u32),
            Argument::Is(index, number) => (index, SeccompCmpOp::Eq, number),
            Argument::Above(index, number) => (index, SeccompCmpOp::Gt, number),
            Argument::With(index, bits) => (index, SeccompCmpOp::MaskedEq(bits.into()), bits),
            Argument::Without(index, bits) => (index, SeccompCmpOp::MaskedEq(bits.into()), 0),
        };
        vec![compare(index, operator, value)]
    };
    SeccompRule::new(arguments.iter().flat_map(condition).collect()).expect("a condition is given")
}

fn compare(index: u8, operator: SeccompCmpOp, value: u32) -> SeccompCondition {
    SeccompCondition::new(index, SeccompCmpArgLen::Dword, operator, value.into())
        .expect("a call has six arguments")
}

fn install(
    rules: BTreeMap<c_long, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    matched: SeccompAction,
) -> Result<(), SandboxError> {
    available()?;
    let here = std::env::consts::ARCH.try_into().map_err(|_| SandboxError::NoSeccomp)?;
    let filter = SeccompFilter::new(rules, otherwise, matched, here).and_then(BpfProgram::try_from);
    let filter = filter.map_err(|e| io::Error::other(e.to_string()))?;
    seccompiler::apply_filter(&filter).map_err(|_| SandboxError::NoSeccomp)
}

#[cfg(test)]
mod tests {
    use super::Argument::{self, Fd, Within};

    #[test]
    fn descriptors_without_a_gap_are_one_comparison_and_nothing_between_runs_is_let_in() {
        assert_eq!(
            Argument::among(2, &[7, 3, 4, 9, 5, 10, 4]),
            [Within(2, 3, 5), Fd(2, 7), Within(2, 9, 10)]
        );
        assert_eq!(Argument::among(0, &[-1]), [Fd(0, -1)]);
        assert!(Argument::among(0, &[]).is_empty());
    }
}
