//! Nothing that says who is where can be stored or sent but through a codec.

use serde::Serialize;

fn shown<T: Serialize>() {}

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
}
