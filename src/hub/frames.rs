//! Messages on a socket: protobuf, each after its length. The length is bounded.

use std::io;
use std::marker::PhantomData;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio_util::codec::{Encoder as _, FramedRead, LengthDelimitedCodec};

use super::HubError;

/// Bytes of one message at most.
pub(super) const FRAME_BYTES_MAX: usize = 64 << 20;

fn codec() -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder().max_frame_length(FRAME_BYTES_MAX).new_codec()
}

/// Reads messages of one type. Dropping a pending read loses nothing.
#[derive(Debug)]
pub(super) struct Reader<R, M> {
    frames: FramedRead<R, LengthDelimitedCodec>,
    message: PhantomData<fn() -> M>,
}

impl<R: AsyncRead + Unpin, M: Message + Default> Reader<R, M> {
    pub(super) fn new(stream: R) -> Self {
        Self { frames: FramedRead::new(stream, codec()), message: PhantomData }
    }

    /// The next message; `None` where the other side has closed.
    pub(super) async fn next(&mut self) -> Result<Option<M>, HubError> {
        match self.frames.next().await {
            None => Ok(None),
            Some(frame) => Ok(Some(M::decode(frame?)?)),
        }
    }
}

/// Writes messages of one type. Dropping a pending write may leave half of it: then the connection is done.
#[derive(Debug)]
pub(super) struct Writer<W, M> {
    stream: W,
    buffer: BytesMut,
    message: PhantomData<fn(M)>,
}

impl<W: AsyncWrite + Unpin, M: Message> Writer<W, M> {
    pub(super) fn new(stream: W) -> Self {
        Self { stream, buffer: BytesMut::new(), message: PhantomData }
    }

    pub(super) async fn send(&mut self, message: &M) -> io::Result<()> {
        self.buffer.clear();
        codec().encode(Bytes::from(message.encode_to_vec()), &mut self.buffer)?;
        self.stream.write_all(&self.buffer).await?;
        self.stream.flush().await
    }
}

#[cfg(test)]
mod tests {
    use undercurrent_schemas::v1;

    use super::*;

    #[tokio::test]
    async fn messages_pass_and_a_frame_beyond_the_bound_does_not() {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let mut writer = Writer::<_, v1::Welcome>::new(ours);
        let mut reader = Reader::<_, v1::Welcome>::new(theirs);
        writer.send(&v1::Welcome { protocol: 7 }).await.unwrap();
        assert_eq!(reader.next().await.unwrap(), Some(v1::Welcome { protocol: 7 }));

        writer.stream.write_all(&u32::MAX.to_be_bytes()).await.unwrap();
        assert!(matches!(reader.next().await, Err(HubError::Socket(_))));
    }
}
