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
    /// It is this number.
    Is(u8, u32),
    /// It is a greater number, negative ones being the greatest.
    Above(u8, u32),
    /// It has all of these bits.
    With(u8, u32),
    /// It has none of these bits.
    Without(u8, u32),
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
        fds.iter().fold(self, |all, &fd| all.only(calls, &[Argument::Fd(0, fd)]))
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
            Argument::Fd(index, fd) => (index, SeccompCmpOp::Eq, fd as u32),
            Argument::Is(index, number) => (index, SeccompCmpOp::Eq, number),
            Argument::Above(index, number) => (index, SeccompCmpOp::Gt, number),
            Argument::With(index, bits) => (index, SeccompCmpOp::MaskedEq(bits.into()), bits),
            Argument::Without(index, bits) => (index, SeccompCmpOp::MaskedEq(bits.into()), 0),
        };
        SeccompCondition::new(index, SeccompCmpArgLen::Dword, operator, value.into())
            .expect("a call has six arguments")
    };
    SeccompRule::new(arguments.iter().map(condition).collect()).expect("a condition is given")
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
