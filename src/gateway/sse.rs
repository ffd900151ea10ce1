//! Server-sent events, read as they pass: chunks in, the data of each complete event out.
//!
//! Not here: relaying (the chunks went out before they came here), the meaning of the data. Invariant: holds at most
//! one event, of a bounded size; an event above the bound is skipped whole and reported as such.

/// Reads a stream of events in chunks of any size.
#[derive(Debug)]
pub(crate) struct SseParser {
    line: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    /// The last chunk ended in CR: a LF at the start of the next belongs to it.
    after_cr: bool,
    at_start: bool,
    overflow: bool,
    /// The event says that it is something else than a message.
    other: bool,
    bytes_max: usize,
}

/// What one event amounts to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SseEvent<'a> {
    /// Its `data` lines, joined.
    Data(&'a [u8]),
    /// It was larger than the bound.
    TooLarge,
}

impl SseParser {
    pub(crate) const fn new(bytes_max: usize) -> Self {
        Self {
            line: Vec::new(),
            data: Vec::new(),
            has_data: false,
            after_cr: false,
            at_start: true,
            overflow: false,
            other: false,
            bytes_max,
        }
    }

    /// Takes one chunk and hands each event that it completes to `event`.
    pub(crate) fn feed(&mut self, mut chunk: &[u8], mut event: impl FnMut(SseEvent<'_>)) {
        if self.after_cr && !chunk.is_empty() {
            self.after_cr = false;
            chunk = chunk.strip_prefix(b"\n").unwrap_or(chunk);
        }
        while let Some(end) = memchr::memchr2(b'\n', b'\r', chunk) {
            let (part, rest) = chunk.split_at(end);
            if self.line.is_empty() && !self.overflow {
                self.end_line(part, &mut event);
            } else {
                self.extend_line(part);
                let line = std::mem::take(&mut self.line);
                self.end_line(&line, &mut event);
                self.line = line;
                self.line.clear();
            }
            chunk = match rest {
                [b'\r', b'\n', rest @ ..] => rest,
                [b'\r'] => {
                    self.after_cr = true;
                    &[]
                }
                [_, rest @ ..] => rest,
                [] => &[],
            };
        }
        self.extend_line(chunk);
    }

    fn extend_line(&mut self, part: &[u8]) {
        if self.overflow || self.line.len() + self.data.len() + part.len() > self.bytes_max + FIELD_BYTES {
            // Only whether the line is blank matters from here on: a blank one ends the event.
            self.overflow = true;
            self.data.clear();
            if self.line.is_empty() {
                self.line.extend_from_slice(part.get(..1).unwrap_or_default());
            }
            self.line.truncate(1);
        } else {
            self.line.extend_from_slice(part);
        }
    }

    fn end_line(&mut self, line: &[u8], event: &mut impl FnMut(SseEvent<'_>)) {
        let line = if std::mem::take(&mut self.at_start) { line.strip_prefix(BOM).unwrap_or(line) } else { line };
        if line.is_empty() {
            if self.overflow {
                event(SseEvent::TooLarge);
            } else if self.has_data && !self.data.is_empty() && !self.other {
                event(SseEvent::Data(&self.data));
            }
            self.data.clear();
            self.has_data = false;
            self.overflow = false;
            self.other = false;
        } else if let Some(kind) = line.strip_prefix(b"event:") {
            self.other = !matches!(kind.trim_ascii(), b"message" | b"");
        } else if let Some(value) = data_of(line).filter(|_| !self.overflow) {
            if self.data.len() + value.len() > self.bytes_max {
                self.overflow = true;
                self.data.clear();
                return;
            }
            if std::mem::replace(&mut self.has_data, true) {
                self.data.push(b'\n');
            }
            self.data.extend_from_slice(value);
        }
    }
}

const BOM: &[u8] = "\u{feff}".as_bytes();
/// Room for `data: ` before the bound on the data itself is looked at.
const FIELD_BYTES: usize = 8;

/// The value of a `data` field; `None` for comments and all other fields.
fn data_of(line: &[u8]) -> Option<&[u8]> {
    match line.strip_prefix(b"data")? {
        [] => Some(&[]),
        [b':', b' ', value @ ..] | [b':', value @ ..] => Some(value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(stream: &[u8], chunk: usize, bytes_max: usize) -> Vec<Option<String>> {
        let mut parser = SseParser::new(bytes_max);
        let mut seen = Vec::new();
        for chunk in stream.chunks(chunk) {
            parser.feed(chunk, |event| {
                seen.push(match event {
                    SseEvent::Data(data) => Some(String::from_utf8(data.to_vec()).unwrap()),
                    SseEvent::TooLarge => None,
                });
            });
        }
        seen
    }

    /// The outcome must not depend on where the chunks are cut.
    fn check(stream: &str, bytes_max: usize, expect: &[Option<&str>]) {
        for chunk in 1..=stream.len() {
            let seen = events(stream.as_bytes(), chunk, bytes_max);
            assert_eq!(seen.iter().map(Option::as_deref).collect::<Vec<_>>(), expect, "chunks of {chunk}");
        }
    }

    #[test]
    fn data_lines_are_joined_and_other_fields_are_skipped() {
        check(": hi\nid: 1\nevent: message\ndata: {\"a\":\ndata:1}\n\n", 100, &[Some("{\"a\":\n1}")]);
        check("data: 1\n\ndata\n\nretry: 5\n\ndatax: 2\n\ndata: 3\n\n", 100, &[Some("1"), Some("3")]);
    }

    #[test]
    fn only_messages_are_read() {
        check(
            "event: endpoint\ndata: /m\n\nevent: message\ndata: 1\n\nevent:ping\ndata: 2\n\ndata: 3\n\n",
            100,
            &[Some("1"), Some("3")],
        );
    }

    #[test]
    fn all_three_line_ends_count() {
        check("data: 1\r\ndata: 2\r\n\r\ndata: 3\r\rdata: 4\n\n", 100, &[Some("1\n2"), Some("3"), Some("4")]);
        check("\u{feff}data: 1\n\n", 100, &[Some("1")]);
    }

    #[test]
    fn an_event_that_is_cut_off_is_no_event() {
        check("data: 1\n\ndata: 2\n", 100, &[Some("1")]);
    }

    #[test]
    fn an_event_above_the_bound_is_skipped_whole() {
        check("data: 1\n\ndata: 0123456789012345678901234\nid: 4\n\ndata: 2\n\n", 10, &[Some("1"), None, Some("2")]);
        check("data: 12345\ndata: 123456\ndata: 1\n\ndata: 2\n\n", 10, &[None, Some("2")]);
        check("data: 1234567890\n\n", 10, &[Some("1234567890")]);
    }
}
