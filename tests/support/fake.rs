//! An upstream that behaves as a test wants, byte by byte: what no real server would do on request.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use super::http::{Message, Side, messages};

/// Listens on a free port; each request of each connection goes to `answer`, which writes what it likes.
pub(crate) fn upstream(answer: impl Fn(&Message, &mut TcpStream) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind a free port");
    let address = listener.local_addr().expect("a bound listener has an address");
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let answer = answer.clone();
            thread::spawn(move || serve(socket, &answer));
        }
    });
    address
}

/// Answers the requests of one connection.
pub(crate) fn serve(mut socket: TcpStream, answer: &impl Fn(&Message, &mut TcpStream)) {
    let (mut received, mut answered) = (Vec::new(), 0);
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = socket.read(&mut buffer) {
        received.extend_from_slice(&buffer[..read]);
        let requests = messages(Side::Client, &received, false);
        for request in requests.iter().filter(|request| request.complete).skip(answered) {
            answered += 1;
            answer(request, &mut socket);
        }
        // Nobody here sends the next request before the answer, so these bytes are no more needed.
        if answered > 0 && answered == requests.len() {
            (received, answered) = (Vec::new(), 0);
        }
    }
}

/// Writes a whole JSON response.
pub(crate) fn respond(socket: &mut TcpStream, status: &str, headers: &str, body: &str) {
    let length = body.len();
    let response = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
    );
    // The gateway may have left.
    let _ = socket.write_all(response.as_bytes());
}

/// Writes one more event.
pub(crate) fn event(socket: &mut TcpStream, event: &str) -> std::io::Result<()> {
    let event = format!("event: message\ndata: {event}\n\n");
    socket.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes())
}

/// Ends an event stream.
pub(crate) fn end_events(socket: &mut TcpStream) -> std::io::Result<()> {
    socket.write_all(b"0\r\n\r\n")
}

/// Writes the head of an event stream and its first events, and leaves it open.
pub(crate) fn begin_events(socket: &mut TcpStream, events: &[&str]) {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    let _ = socket.write_all(head.as_bytes()).and_then(|()| events.iter().try_for_each(|text| event(socket, text)));
}
