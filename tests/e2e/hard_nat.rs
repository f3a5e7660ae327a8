//! A router that gives each destination another port, and one at home: straight by trying many ports, with one relay.

use std::time::Duration;

use tests::Lab;

use crate::world::World;

/// Two rounds. One in four hundred leads nowhere, two in a row in one of 150,000 runs; most take three to six seconds.
const TWO_ROUNDS: Duration = Duration::from_secs(60);

#[test]
fn a_hard_nat_and_a_home_become_direct_and_stay_so() {
    let lab = Lab::up("home=easy,cafe=hard").unwrap();
    let world = World::of(lab, &["home-1", "cafe-1"]);
    world.settle();
    let took = world.becomes_direct("home-1", "cafe-1", TWO_ROUNDS);
    let back = world.becomes_direct("cafe-1", "home-1", TWO_ROUNDS);
    println!("direct after {took:.2?}, and the other way {back:.2?} later");
    // The one port that was met is kept open.
    for _ in 0..5 {
        std::thread::sleep(Duration::from_millis(500));
        world.becomes_direct("home-1", "cafe-1", Duration::from_millis(300));
    }
}
