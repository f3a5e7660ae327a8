//! Nothing that says who is where can be written into a log.

use std::fmt::Debug;

fn shown<T: Debug>() {}

fn main() {
    shown::<proto::metadata::Endpoint>();
    shown::<proto::metadata::InnerAddr>();
    shown::<proto::metadata::InnerNet>();
    shown::<proto::metadata::MailboxId>();
    shown::<proto::pipe::PeerStatus>();
    shown::<proto::pipe::PathView>();
    shown::<proto::pipe::ToData<'static>>();
    shown::<proto::pipe::FromData<'static>>();
    shown::<proto::probe::Candidate>();
    shown::<proto::relay::Handle>();
    shown::<proto::relay::Frame<'static>>();
    shown::<proto::relay::Pseudonym>();
    shown::<proto::introduction::Introduction>();
    shown::<proto::roster::MachineEntry>();
    shown::<proto::roster::JoinRecord>();
    shown::<proto::roster::Roster>();
    shown::<proto::api::Status>();
    shown::<proto::api::NetworkStatus>();
    shown::<proto::api::Peer>();
    shown::<proto::api::Own>();
    shown::<proto::api::Machine>();
}
