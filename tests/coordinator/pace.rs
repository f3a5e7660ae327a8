//! How long the coordinator takes for what a network of some size asks of it.

use std::time::{Duration, Instant};

use proto::{
    coordinator::Auth,
    epoch::Slot,
    identity::MachineKeys,
    roster::{JoinRecord, NewInvite},
};
use rand_core::OsRng;

use crate::house::{House, Network, directory, now};

/// Machines of the network.
const MACHINES: u32 = 64;

/// Requests of each kind; the middle one counts, since others use the disk too.
const SAMPLES: usize = 21;

/// Far above what it takes; a fault that makes each change write the whole network is above it.
const MOST: Duration = Duration::from_millis(150);

#[tokio::test]
async fn a_change_in_a_network_of_64_machines_takes_milliseconds() {
    let directory = directory();
    let house = House::open(directory.path()).await;
    let mut network = house.network("anna").await;
    let client = house.client();
    let new = NewInvite { name: None, uses: MACHINES - 1, expires: now() + 3600, groups: Vec::new() };
    let secret = network.publish(&client, |draft| draft.add_invite(new)).await;
    let records: Vec<JoinRecord> = (1..MACHINES).map(|number| record(&network, &secret, number)).collect();
    network
        .publish(&client, |draft| {
            assert!(draft.fold_all(&records).iter().all(Result::is_ok));
            Ok(())
        })
        .await;

    let mut changes = Vec::new();
    let mut fetches = Vec::new();
    let mut states = Vec::new();
    let slot: Slot = network.roster.state().slots()[0].slot;
    for sample in 0..SAMPLES {
        let begun = Instant::now();
        network
            .publish(&client, |draft| {
                let id = draft.machines().next().unwrap().id;
                draft.rename_machine(&id, &format!("name-{sample}"))
            })
            .await;
        changes.push(begun.elapsed());
        let begun = Instant::now();
        house.store.slot(&network.id(), &slot).await.unwrap().unwrap();
        fetches.push(begun.elapsed());
        let begun = Instant::now();
        client.state(&network.id(), &Auth::Member(&network.member())).await.unwrap();
        states.push(begun.elapsed());
    }
    let changed = middle(changes);
    println!("change {changed:?}, sealed key {:?}, whole state {:?}", middle(fetches), middle(states));
    assert!(changed < MOST, "{changed:?}");
}

fn record(network: &Network, secret: &proto::roster::InviteSecret, number: u32) -> JoinRecord {
    let keys = MachineKeys::generate(&mut OsRng);
    JoinRecord::create(&network.roster, secret, &keys, &format!("machine-{number}"), &mut OsRng)
        .unwrap_or_else(|_| panic!("a record"))
}

fn middle(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
