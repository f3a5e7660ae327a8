//! Packets that left a computer, as its own network card saw them: tcpdump at the uplink, and what it wrote, read again.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{Host, Result, Trouble, wait};

/// Enough of each packet: Ethernet, IPv6 with an extension, ports.
const BYTES: &str = "128";

/// Records what leaves a host by one interface.
pub struct Recorder {
    tcpdump: Child,
    file: PathBuf,
    said: PathBuf,
}

/// A packet, as far as it says where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Packet {
    /// No IP: its EtherType.
    Link(u16),
    /// IP.
    Ip {
        /// Where it goes.
        to: IpAddr,
        /// IP's number of what is in it: 6 TCP, 17 UDP, 1 and 58 ICMP, 2 IGMP.
        protocol: u8,
        /// Source and destination port of TCP and UDP; type and code of ICMP.
        ports: (u16, u16),
    },
}

impl Recorder {
    /// Starts to record at `interface`.
    ///
    /// # Errors
    /// If tcpdump is missing, or does not listen soon.
    pub fn start(host: &Host, interface: &str) -> Result<Self> {
        let file = host.lab().folder().join(format!("{}.pcap", host.name()));
        let said = file.with_extension("said");
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &host.namespace(), "tcpdump", "-n", "-U", "-Z", "root", "-B", "8192"])
            .args(["-Q", "out", "-s", BYTES, "-i", interface, "-w"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&said)?);
        let recorder = Self { tcpdump: command.spawn()?, file, said };
        wait::until(&format!("tcpdump listens on {}", host.name()), wait::SOON, || {
            recorder.printed().contains("listening on")
        })?;
        Ok(recorder)
    }

    /// Ends the record and returns what left.
    ///
    /// # Errors
    /// If packets were missed, or the record is none.
    pub fn end(mut self) -> Result<Vec<Packet>> {
        self.stop();
        let printed = self.printed();
        if !printed.lines().any(|line| line.trim() == "0 packets dropped by kernel") {
            return Err(Trouble::new(format!("packets were missed: {printed}")));
        }
        packets(&fs::read(&self.file)?).ok_or_else(|| Trouble::new("the record of packets is damaged"))
    }

    fn stop(&mut self) {
        let _ = kill(Pid::from_raw(self.tcpdump.id().cast_signed()), Signal::SIGINT);
        let _ = self.tcpdump.wait();
    }

    fn printed(&self) -> String {
        fs::read_to_string(&self.said).unwrap_or_default()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The packets of a record in pcap's first format, of Ethernet frames, in this processor's byte order. `None` if it is
/// another, or is cut off.
#[must_use]
pub fn packets(record: &[u8]) -> Option<Vec<Packet>> {
    const MAGIC: u32 = 0xa1b2_c3d4;
    const ETHERNET: u32 = 1;
    let word = |bytes: &[u8], at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    if word(record, 0)? != MAGIC || word(record, 20)? != ETHERNET {
        return None;
    }
    let (mut rest, mut packets) = (record.get(24..)?, Vec::new());
    while !rest.is_empty() {
        let length = word(rest, 8)? as usize;
        packets.push(packet(rest.get(16..16 + length)?)?);
        rest = rest.get(16 + length..)?;
    }
    Some(packets)
}

fn packet(frame: &[u8]) -> Option<Packet> {
    let kind = u16::from_be_bytes(frame.get(12..14)?.try_into().ok()?);
    let inside = frame.get(14..)?;
    let (to, protocol, inside) = match kind {
        0x0800 => {
            let to: [u8; 4] = inside.get(16..20)?.try_into().ok()?;
            let length = usize::from(inside.first()? & 15) * 4;
            (IpAddr::V4(Ipv4Addr::from(to)), *inside.get(9)?, inside.get(length..)?)
        }
        0x86dd => {
            let to: [u8; 16] = inside.get(24..40)?.try_into().ok()?;
            let (mut next, mut inside) = (*inside.get(6)?, inside.get(40..)?);
            // Hop-by-hop options, which multicast listener reports carry.
            if next == 0 {
                next = *inside.first()?;
                inside = inside.get(usize::from(*inside.get(1)?) * 8 + 8..)?;
            }
            (IpAddr::V6(Ipv6Addr::from(to)), next, inside)
        }
        other => return Some(Packet::Link(other)),
    };
    let byte = |at: usize| inside.get(at).copied().unwrap_or_default();
    let ports = match protocol {
        6 | 17 => (u16::from_be_bytes([byte(0), byte(1)]), u16::from_be_bytes([byte(2), byte(3)])),
        1 | 58 => (u16::from(byte(0)), u16::from(byte(1))),
        _ => (0, 0),
    };
    Some(Packet::Ip { to, protocol, ports })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(frames: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for word in [0xa1b2_c3d4, 0x0004_0002, 0, 0, 128, 1_u32] {
            bytes.extend(word.to_ne_bytes());
        }
        for frame in frames {
            for word in [0, 0, frame.len() as u32, 1_500] {
                bytes.extend(word.to_ne_bytes());
            }
            bytes.extend(frame);
        }
        bytes
    }

    fn frame(kind: u16, inside: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend(kind.to_be_bytes());
        frame.extend(inside);
        frame
    }

    #[test]
    fn a_record_says_where_each_packet_goes() {
        let mut udp = vec![0x45; 20];
        udp[9] = 17;
        udp[16..20].copy_from_slice(&[45, 255, 1, 2]);
        udp.extend([0xca, 0x6c, 0x0d, 0x96, 0, 8, 0, 0]);
        let mut report = vec![0x60; 40];
        report[6] = 0;
        report[24..40].copy_from_slice(&"ff02::16".parse::<Ipv6Addr>().unwrap().octets());
        report.extend([58, 0, 5, 2, 0, 0, 1, 0, 143, 0]);
        let frames = [frame(0x0800, &udp), frame(0x86dd, &report), frame(0x0806, &[0; 28])];
        assert_eq!(
            packets(&record(&frames)).unwrap(),
            [
                Packet::Ip { to: "45.255.1.2".parse().unwrap(), protocol: 17, ports: (51_820, 3_478) },
                Packet::Ip { to: "ff02::16".parse().unwrap(), protocol: 58, ports: (143, 0) },
                Packet::Link(0x0806),
            ]
        );
        let whole = record(&frames);
        assert!(packets(&whole[..whole.len() - 1]).is_none(), "a record that is cut off is no record");
    }
}
