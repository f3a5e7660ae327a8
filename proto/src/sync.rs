//! Sync: how members hand one another the newest roster inside the tunnel.
//!
//! Machines tell each other the roster that they have in their announcements ([`crate::probe::Message::Candidates`]). Who
//! has an older one fetches the newer one from a peer, over TCP between the two machines' tunnel IPv6 addresses: cryptokey
//! routing says who is speaking.

/// The TCP port where a member's control listens, on its tunnel IPv6 address. The data path lets nothing else pass
/// between this machine and a guest ([`crate::pipe::ToData::Guest`]).
pub const PORT: u16 = 41_112;
