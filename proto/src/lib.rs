//! Tacet's wire types: what machines, coordinator, relays, data path and command line say to one another.
//!
//! Nothing here performs I/O, reads a clock or logs: time and randomness are passed in, bytes come out.
//!
//! | room | what is in it |
//! |---|---|
//! | [`wire`] | the byte codec that all formats share |
//! | [`metadata`] | values that say who is where; they have no `Debug` |
//! | [`identity`] | a machine's four key pairs, the network's root and its paper form |
//! | [`seal`] | HPKE (X-Wing) and the one bridge between two generations of `rand_core` |
//! | [`epoch`] | the epoch key and what it yields |
//! | [`roster`] | entries, header, generations, deltas, invites, memberships |
//! | [`introduction`] | a joiner's first frame to a peer that has not seen it yet |
//! | [`token`] | invite, enrolment and recovery tokens: one line, checksummed |
//! | [`mailbox`] | blinded mailbox keys and the proof of ownership |
//! | [`relay`] | frames between a machine and a relay, admission credentials |
//! | [`stun`] | STUN binding requests and answers (RFC 8489) |
//! | [`coordinator`] | requests and answers of the coordinator, what a member signs |
//! | [`account`] | the OPAQUE suite |
//! | [`pipe`] | frames between control and the data path |
//! | [`probe`] | candidates and probes inside a session |
//! | [`beacon`] | what a machine says on its LAN when it looks for another |
//! | [`gateway`] | a port of the router's outer address: PCP, NAT-PMP, UPnP |
//! | [`proxy`] | HTTP CONNECT: a tunnel through a proxy |
//! | [`piece`] | a packet that is too large for its path, in pieces |
//! | [`sync`] | what two machines say when they compare rosters inside the tunnel |
//! | [`inventory`] | what a component stores: declared, and there now |
//! | [`api`] | vpnd's local API |

pub mod account;
pub mod api;
pub mod beacon;
pub mod coordinator;
pub mod epoch;
pub mod gateway;
pub mod identity;
pub mod introduction;
pub mod inventory;
pub mod mailbox;
pub mod metadata;
pub mod piece;
pub mod pipe;
pub mod probe;
pub mod proxy;
pub mod relay;
pub mod roster;
pub mod seal;
pub mod stun;
pub mod sync;
pub mod token;
pub mod uapi;
pub mod wire;
