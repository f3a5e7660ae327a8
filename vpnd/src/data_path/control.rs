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
