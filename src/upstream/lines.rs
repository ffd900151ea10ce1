//! Lines of a stdio peer, in bounded memory. Invariant: the pieces, joined, are the stream byte for byte.

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// A piece of the stream, its line end included.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// A whole line; only the last one of a stream may lack its line end.
    Line(Bytes),
    /// A part of a line above the bound; `last` ends it.
    Part { bytes: Bytes, last: bool },
}

/// Reads a stream line by line.
#[derive(Debug)]
pub(crate) struct LineReader<R> {
    reader: R,
    buffer: BytesMut,
    /// Bytes of `buffer` that are known to hold no line end.
    scanned: usize,
    within_part: bool,
    bytes_max: usize,
}

impl<R: AsyncRead + Unpin> LineReader<R> {
    pub(crate) fn new(reader: R, bytes_max: usize) -> Self {
        Self { reader, buffer: BytesMut::new(), scanned: 0, within_part: false, bytes_max }
    }

    /// The next piece; `None` at the end. May be dropped and called again without losing anything.
    pub(crate) async fn next(&mut self) -> std::io::Result<Option<Piece>> {
        loop {
            if let Some(at) = memchr::memchr(b'\n', &self.buffer[self.scanned..]) {
                return Ok(Some(self.line(self.scanned + at + 1)));
            }
            self.scanned = self.buffer.len();
            if self.scanned >= self.bytes_max {
                self.scanned = 0;
                self.within_part = true;
                return Ok(Some(Piece::Part { bytes: self.buffer.split().freeze(), last: false }));
            }
            self.buffer.reserve(READ_BYTES);
            if self.reader.read_buf(&mut self.buffer).await? == 0 {
                let rest = self.buffer.len();
                return Ok((rest > 0 || self.within_part).then(|| self.line(rest)));
            }
        }
    }

    fn line(&mut self, end: usize) -> Piece {
        let bytes = self.buffer.split_to(end).freeze();
        self.scanned = 0;
        // One read may bring more than the bound, and the end of the line with it.
        let long = std::mem::take(&mut self.within_part) || bytes.len() > self.bytes_max;
        if long { Piece::Part { bytes, last: true } } else { Piece::Line(bytes) }
    }
}

const READ_BYTES: usize = 8 << 10;

/// The line without its end, and without the spaces that JSON does not mind.
pub(crate) fn content(line: &[u8]) -> &[u8] {
    line.trim_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn pieces(stream: &'static str, bytes_max: usize) -> Vec<Piece> {
        let mut reader = LineReader::new(stream.as_bytes(), bytes_max);
        let mut pieces = Vec::new();
        while let Some(piece) = reader.next().await.unwrap() {
            pieces.push(piece);
        }
        pieces
    }

    fn line(text: &'static str) -> Piece {
        Piece::Line(Bytes::from_static(text.as_bytes()))
    }

    #[tokio::test]
    async fn lines_keep_their_ends() {
        assert_eq!(pieces("a\r\n\nb", 10).await, [line("a\r\n"), line("\n"), line("b")]);
        assert_eq!(pieces("", 10).await, []);
    }

    #[tokio::test]
    async fn a_line_above_the_bound_comes_in_pieces() {
        let (mut near, far) = tokio::io::duplex(4);
        let write = tokio::spawn(async move {
            tokio::io::AsyncWriteExt::write_all(&mut near, b"0123456789\nab\n").await.unwrap();
        });
        let mut reader = LineReader::new(far, 5);
        let (mut all, mut parts) = (Vec::new(), 0);
        while let Some(piece) = reader.next().await.unwrap() {
            match piece {
                Piece::Part { bytes, last } => {
                    all.extend_from_slice(&bytes);
                    parts += 1;
                    assert_eq!(last, bytes.ends_with(b"\n"));
                }
                Piece::Line(bytes) => all.extend_from_slice(&bytes),
            }
        }
        write.await.unwrap();
        assert_eq!(all, b"0123456789\nab\n");
        assert!(parts > 1);
    }
}
