//! A client connection that stays open, for exchanges that may fail: what came is told from what did not.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::http::{Message, Side, messages};
use super::wait::PATIENCE;

#[derive(Debug)]
pub(crate) struct Wire {
    to: SocketAddr,
    path: String,
    socket: TcpStream,
}

impl Wire {
    pub(crate) fn open(to: SocketAddr, path: &str) -> io::Result<Self> {
        let socket = TcpStream::connect(to)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_nodelay(true)?;
        Ok(Self { to, path: path.to_owned(), socket })
    }

    /// Sends a request, and nothing more.
    pub(crate) fn send(&mut self, method: &str, session: Option<&str>, body: &[u8]) -> io::Result<()> {
        let session = session.map_or_else(String::new, |id| format!("Mcp-Session-Id: {id}\r\n"));
        let (to, path) = (self.to, &self.path);
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {to}\r\n{session}Content-Type: application/json\r\n\
             Accept: application/json, text/event-stream\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        self.socket.write_all(&[head.as_bytes(), body].concat())
    }

    /// The next response, to its end.
    pub(crate) fn receive(&mut self) -> io::Result<Message> {
        let (mut received, mut buffer) = (Vec::new(), [0; 16 << 10]);
        loop {
            let read = self.socket.read(&mut buffer)?;
            received.extend_from_slice(&buffer[..read]);
            if let Some(message) = messages(Side::Server, &received, read == 0).pop().filter(|message| message.complete)
            {
                return Ok(message);
            }
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    pub(crate) fn exchange(&mut self, method: &str, session: Option<&str>, body: &[u8]) -> io::Result<Message> {
        self.send(method, session, body)?;
        self.receive()
    }

    /// Waits for the first byte of what comes, and leaves it there.
    pub(crate) fn has_begun(&self) -> io::Result<bool> {
        self.socket.peek(&mut [0]).map(|bytes| bytes > 0)
    }
}
