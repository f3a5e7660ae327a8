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
        let (uid, gid) = (Uid::from_raw(caller.uid()), Gid::from_raw(caller.gid()));
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
    use tokio::net::UnixStream;

    use super::*;

    #[tokio::test]
    async fn a_caller_is_let_in_as_own_user_or_group_member_and_not_otherwise() {
        let (stream, _peer) = UnixStream::pair().unwrap();
        let caller = stream.peer_cred().unwrap();
        let (uid, gid) = (Uid::from_raw(caller.uid()), Gid::from_raw(caller.gid()));
        let stranger = Uid::from_raw(uid.as_raw() + 1);

        assert!(Access { own: uid, group: None }.permits(&caller));
        assert!(Access { own: stranger, group: Some(gid) }.permits(&caller));
        if !uid.is_root() {
            assert!(!Access { own: stranger, group: None }.permits(&caller));
        }
    }

    #[test]
    fn a_user_that_the_host_does_not_know_is_in_no_group() {
        assert_eq!(groups_of(Uid::from_raw(4_000_000_000), Gid::from_raw(4_000_000_000)), []);
    }
}
