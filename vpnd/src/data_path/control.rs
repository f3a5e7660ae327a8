//! The two pipes to control, seen from the data path.

use netio::pipe::{PipeError, Reader, Writer};
use proto::pipe::{FrameReader, FrameWriter, FromData};

/// Bytes of relayed datagrams that wait for control; more are dropped. A quarter of a second at 4 MB/s.
const RELAY_BACKLOG: usize = 1 << 20;

/// Bytes that wait for control in all: answers to its own questions, which it does not ask without reading.
const BACKLOG: usize = 4 << 20;

pub(super) struct Control {
    pub(super) rx: Reader,
    pub(super) tx: Writer,
    pub(super) frames: FrameReader,
    out: FrameWriter,
}

impl Control {
    pub(super) fn new(rx: Reader, tx: Writer) -> Self {
        Self { rx, tx, frames: FrameReader::new(), out: FrameWriter::new() }
    }

    /// Reads once; returns whether anything came.
    pub(super) fn fill(&mut self) -> Result<bool, PipeError> {
        let n = self.rx.read(self.frames.space())?;
        self.frames.filled(n);
        Ok(n > 0)
    }

    /// Queues a frame for control, and says whether there was room: control that does not read loses frames, and
    /// neither blocks the data path nor makes it grow.
    pub(super) fn send(&mut self, frame: &FromData<'_>) -> bool {
        let limit = match frame {
            FromData::RelaySend { .. } => RELAY_BACKLOG,
            _ => BACKLOG,
        };
        if self.out.len() >= limit {
            return false;
        }
        self.out.from_data(frame);
        true
    }

    /// Writes what the pipe takes; returns whether something is left.
    pub(super) fn flush(&mut self) -> Result<bool, PipeError> {
        while !self.out.is_empty() {
            let n = self.tx.write(self.out.pending())?;
            if n == 0 {
                return Ok(true);
            }
            self.out.written(n);
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
        let ((other_rx, tx), (rx, _other_tx)) = (pipe().unwrap(), pipe().unwrap());
        let mut control = Control::new(Reader::new(rx), Writer::new(tx));
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
        assert!(control.flush().unwrap() && control.out.len() <= RELAY_BACKLOG + 2_000);
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
