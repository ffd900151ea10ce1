//! Where a response's body ends, found while its bytes pass as they are.
//!
//! Not here: relaying. Invariant: knows at each byte whether it is payload, framing, or no longer of this response.

use std::ops::Range;

use super::head::Length;

/// Longest line of a chunk's size, with its extensions.
const SIZE_LINE_MAX: usize = 256;

/// The framing is broken: whatever follows cannot be told from the next response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Broken;

/// How far a body has come.
#[derive(Debug)]
pub(crate) enum Framing {
    Known(u64),
    Chunked(Chunk),
    UntilClose,
}

/// Where in a chunked body the next byte is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chunk {
    Size {
        value: u64,
        digits: usize,
    },
    /// Between a size and what may follow it: an extension, or nothing.
    Blank {
        value: u64,
        bytes: usize,
    },
    Extension {
        value: u64,
        bytes: usize,
    },
    SizeEnd {
        value: u64,
    },
    Data(u64),
    DataEnd,
    DataEndLf,
    LastEnd,
    LastEndLf,
    Done,
}

impl Framing {
    pub(crate) const fn new(length: Length) -> Self {
        match length {
            Length::Known(bytes) => Self::Known(bytes),
            Length::Chunked => Self::Chunked(Chunk::FIRST),
            Length::UntilClose => Self::UntilClose,
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        matches!(self, Self::Known(0) | Self::Chunked(Chunk::Done))
    }

    /// The end of the connection is the end of the body.
    pub(crate) const fn may_close(&self) -> bool {
        matches!(self, Self::UntilClose)
    }

    /// How many of these bytes are of this body; tells where payload is among them.
    pub(crate) fn advance(&mut self, bytes: &[u8], mut payload: impl FnMut(Range<usize>)) -> Result<usize, Broken> {
        match self {
            Self::UntilClose => {
                payload(0..bytes.len());
                Ok(bytes.len())
            }
            Self::Known(left) => {
                let taken = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                *left -= taken as u64;
                payload(0..taken);
                Ok(taken)
            }
            Self::Chunked(chunk) => {
                let mut at = 0;
                while at < bytes.len() && *chunk != Chunk::Done {
                    if let Chunk::Data(left) = *chunk {
                        let taken = usize::try_from(left).map_or(bytes.len() - at, |left| left.min(bytes.len() - at));
                        payload(at..at + taken);
                        at += taken;
                        let left = left - taken as u64;
                        *chunk = if left == 0 { Chunk::DataEnd } else { Chunk::Data(left) };
                    } else {
                        *chunk = chunk.after(bytes[at])?;
                        at += 1;
                    }
                }
                Ok(at)
            }
        }
    }
}

impl Chunk {
    const FIRST: Self = Self::Size { value: 0, digits: 0 };

    /// The state after one byte of framing (RFC 9112, 7.1). Trailers are refused: nobody here would read them.
    fn after(self, byte: u8) -> Result<Self, Broken> {
        Ok(match (self, byte) {
            (Self::Size { value, digits }, _) if byte.is_ascii_hexdigit() && digits < 15 => {
                let digit = char::from(byte).to_digit(16).map_or(0, u64::from);
                Self::Size { value: value * 16 + digit, digits: digits + 1 }
            }
            (Self::Size { value, digits: 1.. }, b'\r') => Self::SizeEnd { value },
            (Self::Size { value, digits: 1.. }, b' ' | b'\t') => Self::Blank { value, bytes: 0 },
            (Self::Blank { value, bytes }, b' ' | b'\t') if bytes < SIZE_LINE_MAX => {
                Self::Blank { value, bytes: bytes + 1 }
            }
            (Self::Blank { value, .. }, b'\r') => Self::SizeEnd { value },
            (Self::Size { value, digits: 1.. } | Self::Blank { value, .. }, b';') => {
                Self::Extension { value, bytes: 0 }
            }
            (Self::Extension { value, .. }, b'\r') => Self::SizeEnd { value },
            (Self::Extension { value, bytes }, _) if byte != b'\n' && bytes < SIZE_LINE_MAX => {
                Self::Extension { value, bytes: bytes + 1 }
            }
            (Self::SizeEnd { value: 0 }, b'\n') => Self::LastEnd,
            (Self::SizeEnd { value }, b'\n') => Self::Data(value),
            (Self::DataEnd, b'\r') => Self::DataEndLf,
            (Self::DataEndLf, b'\n') => Self::FIRST,
            (Self::LastEnd, b'\r') => Self::LastEndLf,
            (Self::LastEndLf, b'\n') => Self::Done,
            _ => return Err(Broken),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Payload and bytes taken, with the body cut into pieces of this size.
    fn read(length: Length, body: &[u8], piece: usize) -> Result<(Vec<u8>, usize, bool), Broken> {
        let mut framing = Framing::new(length);
        let (mut payload, mut taken) = (Vec::new(), 0);
        for piece in body.chunks(piece) {
            taken += framing.advance(piece, |range| payload.extend_from_slice(&piece[range]))?;
        }
        Ok((payload, taken, framing.is_done()))
    }

    #[test]
    fn bodies_end_where_they_say() {
        let chunked = b"5 \t\r\nhello\r\n0A ;x=y\r\n, world!!!\r\n0\r\n\r\nHTTP";
        for piece in [1, 2, 3, 7, 1_000] {
            assert_eq!(read(Length::Known(5), b"hello", piece), Ok((b"hello".to_vec(), 5, true)));
            assert_eq!(read(Length::UntilClose, b"hello", piece), Ok((b"hello".to_vec(), 5, false)));
            let (payload, taken, done) = read(Length::Chunked, chunked, piece).expect("well-formed");
            assert_eq!((&payload[..], taken, done), (&b"hello, world!!!"[..], chunked.len() - 4, true));
        }
        assert_eq!(read(Length::Known(2), b"hello", 9).map(|read| read.1), Ok(2));
        assert_eq!(read(Length::Chunked, b"5\r\nhel", 9).map(|read| read.2), Ok(false));
    }

    #[test]
    fn broken_chunks_are_told() {
        for body in [
            "x\r\n",
            "\r\n",
            "5\n",
            "5\r\nhelloX",
            "5\r\nhello\rX",
            "0\r\nTrailer: x\r\n\r\n",
            "1000000000000000\r\n",
            "-1\r\n",
            "5;x\n",
            "5 x\r\n",
            "0 0\r\n\r\n",
            "0x5\r\n",
        ] {
            assert_eq!(read(Length::Chunked, body.as_bytes(), 1), Err(Broken), "{body:?}");
        }
    }
}
