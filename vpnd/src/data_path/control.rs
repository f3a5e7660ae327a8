//! The two pipes to control, seen from the data path.

use std::sync::Arc;

use netio::pipe::{PipeError, Reader, Writer};
use proto::pipe::{FrameReader, FrameWriter, FromData};

use super::post::{Letter, Post};

/// Before a frame, in bytes: its length.
pub(super) const LENGTH: usize = 4;

/// Bytes of relayed datagrams that wait for control; more are dropped. A quarter of a second at 4 MB/s.
const RELAY_BACKLOG: usize = 1 << 20;

/// Bytes that wait for control in all: answers to its own questions, which it does not ask without reading.
const BACKLOG: usize = 4 << 20;

/// Where control's frames come from.
pub(super) struct Inlet {
    pub(super) rx: Reader,
    pub(super) frames: FrameReader,
}

/// Where frames for control go.
pub(super) enum Outlet {
    /// Over the pipe, and what waits for it.
    Pipe(Writer, FrameWriter),
    /// Through the first worker, and room for one frame.
    Post(Arc<Post>, FrameWriter),
}

impl Inlet {
    pub(super) fn new(rx: Reader) -> Self {
        Self { rx, frames: FrameReader::new() }
    }

    /// Reads once; returns whether anything came.
    pub(super) fn fill(&mut self) -> Result<bool, PipeError> {
        let n = self.rx.read(self.frames.space())?;
        self.frames.filled(n);
        Ok(n > 0)
    }
}

impl Outlet {
    pub(super) fn pipe(tx: Writer) -> Self {
        Self::Pipe(tx, FrameWriter::new())
    }

    pub(super) fn post(post: Arc<Post>) -> Self {
        Self::Post(post, FrameWriter::new())
    }

    /// Queues a frame for control, and says whether there was room: control that does not read loses frames, and
    /// neither blocks the data path nor makes it grow.
    pub(super) fn send(&mut self, frame: &FromData<'_>) -> bool {
        match self {
            Self::Pipe(_, out) => {
                let limit = match frame {
                    FromData::RelaySend { .. } => RELAY_BACKLOG,
                    _ => BACKLOG,
                };
                if out.len() >= limit {
                    return false;
                }
                out.from_data(frame);
                true
            }
            Self::Post(post, out) => {
                out.from_data(frame);
                let relayed = matches!(frame, FromData::RelaySend { .. });
                let letter = if relayed { Letter::ToRelay } else { Letter::Said };
                let sent = post.send(0, letter, out.pending().get(LENGTH..).unwrap_or_default());
                out.written(out.len());
                sent
            }
        }
    }

    /// Writes what the pipe takes; returns whether something is left.
    pub(super) fn flush(&mut self) -> Result<bool, PipeError> {
        let Self::Pipe(tx, out) = self else { return Ok(false) };
        while !out.is_empty() {
            let n = tx.write(out.pending())?;
            if n == 0 {
                return Ok(true);
            }
            out.written(n);
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use netio::pipe::pipe;
    use proto::pipe::{EpochTag, Pong, RelayTo};

    use super::*;

    #[test]
    fn control_that_does_not_read_loses_relayed_datagrams_and_keeps_answers() {
        let (other_rx, tx) = pipe().unwrap();
        let mut control = Outlet::pipe(Writer::new(tx));
        let relayed = FromData::RelaySend {
            relay: 1,
            to: RelayTo::Peer { peer: 2, epoch: EpochTag::of(1) },
            payload: &[7; 1_452],
        };
        let mut queued = 0;
        while control.send(&relayed) {
            queued += 1;
            control.flush().unwrap();
        }
        let Outlet::Pipe(_, out) = &control else { panic!("it is a pipe") };
        assert!(out.len() <= RELAY_BACKLOG + 2_000 && control.flush().unwrap());
        assert!(!control.send(&relayed) && control.send(&FromData::Pong(Pong { token: 3, result: None })));

        let (other, mut frames, mut received, mut pong) =
            (Reader::new(other_rx), FrameReader::new(), 0, false);
        while !pong {
            let n = other.read(frames.space()).unwrap();
            frames.filled(n);
            while let Some(frame) = frames.next_frame().unwrap() {
                match FromData::decode(frame).unwrap() {
                    FromData::RelaySend { payload, .. } if payload == [7; 1_452] => received += 1,
                    FromData::Pong(Pong { token: 3, .. }) => pong = true,
                    _ => panic!("nothing else was sent"),
                }
            }
            control.flush().unwrap();
        }
        assert_eq!(received, queued);
        assert!(control.send(&relayed));
    }
}
