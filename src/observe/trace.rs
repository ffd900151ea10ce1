//! W3C trace context: what a client says of its trace, and what becomes of it here.

use std::str::FromStr;

use opentelemetry::trace::{SpanId, TraceFlags, TraceId};

/// A `traceparent`, <https://www.w3.org/TR/trace-context/>.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TraceParent {
    pub(super) trace: TraceId,
    pub(super) span: SpanId,
    pub(super) flags: TraceFlags,
}

/// The span that is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TraceContext {
    pub(super) trace: TraceId,
    pub(super) span: SpanId,
}

/// Not a `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotTraceParent;

impl FromStr for TraceParent {
    type Err = NotTraceParent;

    fn from_str(text: &str) -> Result<Self, NotTraceParent> {
        let mut parts = text.trim().splitn(5, '-');
        let mut part = |length: usize| {
            let lower_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
            parts.next().filter(|part| part.len() == length && part.bytes().all(lower_hex)).ok_or(NotTraceParent)
        };
        let (version, trace, span, flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
        // A later version may add parts; the first one has none.
        if version == "ff" || (version == "00" && parts.next().is_some()) {
            return Err(NotTraceParent);
        }
        let trace = TraceId::from_hex(trace).map_err(|_| NotTraceParent)?;
        let span = SpanId::from_hex(span).map_err(|_| NotTraceParent)?;
        let flags = u8::from_str_radix(flags, 16).map_err(|_| NotTraceParent)?;
        if trace == TraceId::INVALID || span == SpanId::INVALID {
            return Err(NotTraceParent);
        }
        Ok(Self { trace, span, flags: TraceFlags::new(flags) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_specification_calls_valid_is_read() {
        let check = |text: &str, expect: bool| assert_eq!(text.parse::<TraceParent>().is_ok(), expect, "{text}");
        check("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", true);
        check("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more", true);
        check("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more", false);
        check("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", false);
        check("00-00000000000000000000000000000000-00f067aa0ba902b7-01", false);
        check("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", false);
        check("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", false);
        check("00-ab-cd-01", false);
        check("", false);
        let parent: TraceParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00".parse().unwrap();
        assert!(!parent.flags.is_sampled());
    }
}
