//! Who may use the local API.

use std::ffi::CString;

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};
use tokio::net::unix::UCred;

/// The group whose members may use the local API.
const GROUP: &str = "tacet";

/// Who may use the local API: root, the user that runs vpnd, and the group `tacet` where it exists.
#[derive(Clone, Copy)]
pub struct Access {
    own: Uid,
    group: Option<Gid>,
}

impl Access {
    /// Looks the group up.
    #[must_use]
    pub fn of_this_host() -> Self {
        let group = Group::from_name(GROUP).ok().flatten().map(|group| group.gid);
        Self { own: nix::unistd::geteuid(), group }
    }

    /// The group that the socket is given to.
    #[must_use]
    pub fn group(self) -> Option<Gid> {
        self.group
    }

    /// Whether a caller with these credentials, as the kernel tells them, may use the API.
    #[must_use]
    pub fn permits(self, caller: &UCred) -> bool {
        self.admits(Uid::from_raw(caller.uid()), Gid::from_raw(caller.gid()))
    }

    fn admits(self, uid: Uid, gid: Gid) -> bool {
        if uid.is_root() || uid == self.own {
            return true;
        }
        self.group.is_some_and(|group| gid == group || groups_of(uid, gid).contains(&group))
    }
}

/// All groups that the user database puts a user in.
fn groups_of(uid: Uid, gid: Gid) -> Vec<Gid> {
    let Ok(Some(user)) = User::from_uid(uid) else { return Vec::new() };
    let Ok(name) = CString::new(user.name) else { return Vec::new() };
    getgrouplist(&name, gid).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_the_own_user_and_group_members_are_let_in_and_nobody_else() {
        let (own, group) = (Uid::from_raw(4_000_000_001), Gid::from_raw(4_000_000_002));
        let (stranger, other) = (Uid::from_raw(4_000_000_003), Gid::from_raw(4_000_000_004));
        let access = Access { own, group: Some(group) };
        assert!(access.admits(Uid::from_raw(0), other));
        assert!(access.admits(own, other));
        assert!(access.admits(stranger, group));
        assert!(!access.admits(stranger, other));
        assert!(!Access { own, group: None }.admits(stranger, group));
    }

    #[test]
    fn a_user_that_the_host_does_not_know_is_in_no_group() {
        assert_eq!(groups_of(Uid::from_raw(4_000_000_000), Gid::from_raw(4_000_000_000)), []);
    }
}
