//! The stream of a network's changes.

use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use proto::coordinator::{BODY_MAX, WatchEvent};
use tokio::time::timeout;

use super::{
    connection::Connection,
    error::{Cause, Error},
};

/// What is lost on the way comes a little later.
const LATE: Duration = Duration::from_secs(10);

/// A watch of one network. Dropping it ends it.
pub struct Watch {
    stream: Incoming,
    buffer: Vec<u8>,
    connection: Connection,
    silence: Duration,
}

impl Watch {
    pub(super) fn new(connection: Connection, stream: Incoming, silence: Duration) -> Self {
        Self { stream, buffer: Vec::new(), connection, silence }
    }

    /// Whether this machine has moved to another network since: nothing will come any more.
    pub fn is_left_behind(&self) -> bool {
        self.connection.is_left_behind()
    }

    /// The next event. The first is the present head; whoever fetches state and joins after it misses nothing.
    /// Safe to cancel: no event is lost.
    ///
    /// # Errors
    /// [`Error::Unreachable`] when the watch has ended: after the delta that ended its epoch, or because the
    /// connection broke or fell silent. [`Error::NotACoordinator`], [`Error::Newer`].
    pub async fn next(&mut self) -> Result<WatchEvent, Error> {
        loop {
            if let Some((event, len)) = WatchEvent::from_frame(&self.buffer)? {
                self.buffer.drain(..len);
                return Ok(event);
            }
            let frame = timeout(self.silence + LATE, self.stream.frame()).await;
            let frame = frame.map_err(|_| Error::Unreachable(Cause::Timeout))?;
            let Some(Ok(frame)) = frame else {
                return Err(Error::Unreachable(Cause::Lost));
            };
            let Ok(data) = frame.into_data() else {
                continue;
            };
            if self.buffer.len() + data.len() > 2 * BODY_MAX {
                return Err(Error::NotACoordinator);
            }
            self.buffer.extend_from_slice(&data);
        }
    }
}
