//! What the actor makes of exchanges.

use proto::roster::Relation;

use super::SyncEvent;
use crate::network::actor::Actor;

impl Actor {
    pub(in crate::network) async fn heed_sync(&mut self, event: SyncEvent) {
        match event {
            SyncEvent::Roster(roster) => {
                // It was compared with the roster of a moment ago.
                let relation = roster.head().relation(self.present.borrow().roster.head());
                match relation {
                    Relation::Newer => self.adopt(*roster).await,
                    Relation::Forked => self.health.contradiction = Some(Box::new(roster.head().clone())),
                    Relation::Same | Relation::Older => return,
                }
                // A coordinator that is there should have brought it: it is behind, or keeps it back.
                if let (None, Some(running)) = (self.health.trouble, &self.running) {
                    running.look();
                }
            }
            SyncEvent::Forked(head) => {
                if head.relation(self.present.borrow().roster.head()) == Relation::Forked {
                    self.health.contradiction = Some(head);
                }
            }
            SyncEvent::Removed => {
                self.health.removed = true;
                self.apply().await;
            }
        }
    }
}
