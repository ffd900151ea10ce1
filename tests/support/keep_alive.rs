//! A session's calls over one connection that stays open, which tells a gateway that is gone from one that is slow.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use serde_json::Value;

use super::http::{Message, Side, messages};
use super::raw::{HttpSession, tools_call};
use super::wait::PATIENCE;

#[derive(Debug)]
pub(crate) struct KeepAlive<'a> {
    session: &'a HttpSession,
    socket: TcpStream,
}

impl<'a> KeepAlive<'a> {
    /// # Panics
    /// When the gateway does not take the connection.
    pub(crate) fn open(session: &'a HttpSession) -> Self {
        let socket = TcpStream::connect(session.address()).expect("the gateway listens");
        socket.set_read_timeout(Some(PATIENCE)).expect("a socket has a timeout");
        socket.set_nodelay(true).expect("a socket can be told not to delay");
        Self { session, socket }
    }

    /// An answered call; an error if the connection broke.
    pub(crate) fn call(&mut self, id: u64, tool: &str, arguments: &Value) -> io::Result<()> {
        let answer = self.exchange("POST", tools_call(id, tool, arguments).to_string().as_bytes())?;
        assert!(answer.status() == 200 && answer.json()["result"].is_object(), "call {id}: {answer:?}");
        Ok(())
    }

    /// Ends the session.
    pub(crate) fn end(&mut self) -> io::Result<()> {
        self.exchange("DELETE", &[]).map(|_| ())
    }

    fn exchange(&mut self, method: &str, body: &[u8]) -> io::Result<Message> {
        let (address, path, (name, id)) = (self.session.address(), self.session.path(), self.session.header());
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\n{name}: {id}\r\nMCP-Protocol-Version: 2025-06-18\r\n\
             Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        self.socket.write_all(&[head.as_bytes(), body].concat())?;
        let mut received = Vec::new();
        let mut buffer = [0; 16 * 1024];
        loop {
            let read = self.socket.read(&mut buffer)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            received.extend_from_slice(&buffer[..read]);
            if let Some(message) = messages(Side::Server, &received, false).pop().filter(|message| message.complete) {
                return Ok(message);
            }
        }
    }
}
