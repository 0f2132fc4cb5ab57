//! The protocol between the host and the agent in the guest: frames over one byte stream (a
//! virtio-serial port).
//!
//! This file is compiled into the library and, through `#[path]`, into the agent. It uses only the
//! standard library. A frame is the message's kind (1 byte), the command's number (4 bytes), the
//! payload's length (4 bytes), both little endian, and the payload. The host chooses the numbers.
//! Any number of commands may run at the same time.

use std::io::{self, Read, Write};

/// A longer payload means that the stream is broken.
const LIMIT: usize = 256 << 20;

/// A command to run in the guest, as byte strings, like in the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) argv: Vec<Vec<u8>>,
    /// `NAME=value`, in addition to the guest's own environment.
    pub(crate) env: Vec<Vec<u8>>,
    /// The working directory; empty means `/`.
    pub(crate) dir: Vec<u8>,
    pub(crate) stdin: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// Guest: ready, with this kernel release.
    Ready(String),
    /// Host: run this command.
    Exec(Request),
    /// Host: kill the command and its children.
    Kill,
    /// Host: end and power off.
    Shutdown,
    /// Guest: a piece of a command's standard output.
    Stdout(Vec<u8>),
    /// Guest: a piece of a command's standard error.
    Stderr(Vec<u8>),
    /// Guest: the command ended, with this wait status.
    Exited(i32),
    /// Guest: the command could not be started, with the reason.
    Refused(String),
}

impl Message {
    fn encode(&self) -> (u8, Vec<u8>) {
        match self {
            Self::Ready(release) => (0, release.clone().into_bytes()),
            Self::Exec(request) => (1, request.encode()),
            Self::Kill => (2, Vec::new()),
            Self::Shutdown => (3, Vec::new()),
            Self::Stdout(bytes) => (4, bytes.clone()),
            Self::Stderr(bytes) => (5, bytes.clone()),
            Self::Exited(status) => (6, status.to_le_bytes().to_vec()),
            Self::Refused(reason) => (7, reason.clone().into_bytes()),
        }
    }

    fn decode(kind: u8, payload: Vec<u8>) -> io::Result<Self> {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(match kind {
            0 => Self::Ready(text(payload)),
            1 => Self::Exec(Request::decode(&payload)?),
            2 => Self::Kill,
            3 => Self::Shutdown,
            4 => Self::Stdout(payload),
            5 => Self::Stderr(payload),
            6 => Self::Exited(i32::from_le_bytes(
                payload.try_into().map_err(|_| garbled("a wait status that is not 4 bytes"))?,
            )),
            7 => Self::Refused(text(payload)),
            _ => return Err(garbled("a message of unknown kind")),
        })
    }
}

impl Request {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for list in [&self.argv, &self.env, &vec![self.dir.clone(), self.stdin.clone()]] {
            out.extend((list.len() as u32).to_le_bytes());
            for item in list {
                out.extend((item.len() as u32).to_le_bytes());
                out.extend(item);
            }
        }
        out
    }

    fn decode(mut rest: &[u8]) -> io::Result<Self> {
        let mut lists = [Vec::new(), Vec::new(), Vec::new()];
        for list in &mut lists {
            for _ in 0..take_u32(&mut rest)? {
                let length = take_u32(&mut rest)? as usize;
                list.push(take(&mut rest, length)?.to_vec());
            }
        }
        let [argv, env, last] = lists;
        let [dir, stdin] =
            <[Vec<u8>; 2]>::try_from(last).map_err(|_| garbled("a request of the wrong shape"))?;
        if rest.is_empty() {
            Ok(Self { argv, env, dir, stdin })
        } else {
            Err(garbled("bytes after a request"))
        }
    }
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> io::Result<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(length).ok_or_else(|| garbled("a request that ends early"))?;
    *rest = left;
    Ok(taken)
}

fn take_u32(rest: &mut &[u8]) -> io::Result<u32> {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(take(rest, 4)?);
    Ok(u32::from_le_bytes(bytes))
}

fn garbled(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the agent's stream holds {what}"))
}

/// Sends one frame in one write, so that several threads can share the stream through a lock.
pub(crate) fn send(stream: &mut impl Write, id: u32, message: &Message) -> io::Result<()> {
    let (kind, payload) = message.encode();
    let length = u32::try_from(payload.len()).ok().filter(|&length| length as usize <= LIMIT);
    let length =
        length.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a message over 256 MiB"))?;
    let mut frame = Vec::with_capacity(9 + payload.len());
    frame.push(kind);
    frame.extend(id.to_le_bytes());
    frame.extend(length.to_le_bytes());
    frame.extend(payload);
    stream.write_all(&frame)
}

/// Receives one frame; `None` at the end of the stream.
pub(crate) fn receive(stream: &mut impl Read) -> io::Result<Option<(u32, Message)>> {
    let mut head = [0; 9];
    if stream.read(&mut head[..1])? == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut head[1..])?;
    let mut fields = &head[1..];
    let (id, length) = (take_u32(&mut fields)?, take_u32(&mut fields)? as usize);
    if length > LIMIT {
        return Err(garbled("a frame of impossible length"));
    }
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload)?;
    Ok(Some((id, Message::decode(head[0], payload)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_arrives_as_it_was_sent() {
        let request = Request {
            argv: vec![b"echo".to_vec(), Vec::new(), vec![0xff, b'\n', b' ']],
            env: vec![b"A=b=c".to_vec()],
            dir: b"/tmp".to_vec(),
            stdin: vec![0; 70_000],
        };
        let messages = [
            Message::Ready("6.1.0".into()),
            Message::Exec(request),
            Message::Exec(Request::default()),
            Message::Kill,
            Message::Shutdown,
            Message::Stdout(b"out".to_vec()),
            Message::Stderr(Vec::new()),
            Message::Exited(-1),
            Message::Refused("no such file".into()),
        ];
        let mut wire = Vec::new();
        for (id, message) in (0..).zip(&messages) {
            send(&mut wire, id, message).unwrap();
        }
        let mut wire = &wire[..];
        for (id, message) in (0..).zip(messages) {
            assert_eq!(receive(&mut wire).unwrap(), Some((id, message)));
        }
        assert_eq!(receive(&mut wire).unwrap(), None);
    }

    #[test]
    fn garbage_is_an_error_and_not_a_panic() {
        let frame = |kind: u8, payload: &[u8]| {
            let mut frame = vec![kind, 0, 0, 0, 0];
            frame.extend((payload.len() as u32).to_le_bytes());
            frame.extend(payload);
            frame
        };
        let bad = [
            frame(99, b""),
            frame(6, b"abc"),
            frame(1, b""),
            frame(1, &[1, 0, 0, 0, 255, 255, 255, 255]),
            vec![4, 0, 0, 0, 0, 255, 255, 255, 255],
            vec![4, 0, 0],
        ];
        for bytes in bad {
            assert!(receive(&mut &bytes[..]).is_err(), "{bytes:?}");
        }
    }
}
