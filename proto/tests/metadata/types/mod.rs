//! The types that say who is where, for each of the programs beside this folder.

/// What machines, relays and the coordinator handle.
macro_rules! who_is_where {
    ($shown:ident) => {
        $shown::<proto::metadata::Endpoint>();
        $shown::<proto::metadata::InnerAddr>();
        $shown::<proto::metadata::InnerNet>();
        $shown::<proto::metadata::MailboxId>();
        $shown::<proto::pipe::PeerStatus>();
        $shown::<proto::pipe::PathView>();
        $shown::<proto::pipe::ToData<'static>>();
        $shown::<proto::pipe::FromData<'static>>();
        $shown::<proto::probe::Candidate>();
        $shown::<proto::relay::Handle>();
        $shown::<proto::relay::Frame<'static>>();
        $shown::<proto::relay::Pseudonym>();
        $shown::<proto::introduction::Introduction>();
        $shown::<proto::roster::MachineEntry>();
        $shown::<proto::roster::JoinRecord>();
        $shown::<proto::roster::Roster>();
    };
}

/// What vpnd answers to somebody who asks: to be sent as JSON, and not printed.
macro_rules! answers {
    ($shown:ident) => {
        $shown::<proto::api::Status>();
        $shown::<proto::api::NetworkStatus>();
        $shown::<proto::api::Peer>();
        $shown::<proto::api::Own>();
        $shown::<proto::api::Machine>();
    };
}
