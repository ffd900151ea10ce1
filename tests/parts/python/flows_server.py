"""The official Python server with one tool for each flow of `sdk_flows`, in both eras.

`flows_server.py --port PORT` listens on Streamable HTTP, with an event store; without it, standard input and output.
"""

import argparse
import asyncio
from typing import Annotated

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.resolve import Elicit, Resolve, Sample
from mcp.server.elicitation import AcceptedElicitation, CancelledElicitation, DeclinedElicitation
from mcp.server.streamable_http import EventMessage, EventStore
from mcp_types import CreateMessageResult, EmptyResult, SamplingMessage, SubscribeRequestParams, TextContent
from pydantic import BaseModel

NOTE = "note://flows"
STATELESS = "2026-07-28"

server = MCPServer("flows", version="1", log_level="ERROR")
note_text = "empty"
# What became of each call of `wait`, by its label.
waited = {}


class Booking(BaseModel):
    seats: int


def sample(question: str):
    content = TextContent(type="text", text=question)
    return Sample([SamplingMessage(role="user", content=content)], max_tokens=100)


@server.tool()
async def ask_model(question: str, answer: Annotated[CreateMessageResult, Resolve(sample)]) -> str:
    return f"{answer.model}: {answer.content.text}"


def seats(date: str):
    return Elicit(f"How many seats on {date}?", Booking)


Outcome = AcceptedElicitation[Booking] | DeclinedElicitation | CancelledElicitation


@server.tool()
async def book(date: str, outcome: Annotated[Outcome, Resolve(seats)]) -> str:
    if isinstance(outcome, AcceptedElicitation):
        return f"{outcome.data.seats} seats on {date}"
    return f"{outcome.action} on {date}"


@server.tool()
async def count(to: int, ctx: Context) -> str:
    for step in range(1, to + 1):
        await ctx.report_progress(step, to, f"step {step}")
    # A client on a pipe may take the result before notifications that came with it.
    await asyncio.sleep(0.2)
    return f"counted to {to}"


@server.tool()
async def wait(label: str, ctx: Context) -> str:
    waited[label] = "waiting"
    try:
        await ctx.report_progress(1, 2, "waiting")
        await asyncio.sleep(60)
        waited[label] = "finished"
    except asyncio.CancelledError:
        waited[label] = "cancelled"
        raise
    return "nobody cancelled"


@server.tool()
async def what_became_of(label: str) -> str:
    for _ in range(500):
        if waited.get(label) not in (None, "waiting"):
            break
        await asyncio.sleep(0.02)
    return waited.get(label, "never heard of it")


@server.tool()
async def cut(ctx: Context) -> str:
    """Its first progress is where the test cuts the connection."""
    await ctx.report_progress(1, 3, "cut here")
    await asyncio.sleep(1)
    await ctx.report_progress(2, 3, "while nobody listened")
    await ctx.report_progress(3, 3, "done")
    return "resumed"


@server.tool()
async def large(characters: int) -> str:
    return "".join(chr(0x20 + index % 0x5F) for index in range(characters - 1)) + "é"


@server.tool()
async def echo(text: str, wait_ms: int) -> str:
    await asyncio.sleep(wait_ms / 1000)
    return text


@server.resource(NOTE)
async def read_note() -> str:
    return note_text


@server.tool()
async def write_note(text: str, ctx: Context) -> str:
    global note_text
    note_text = text
    if ctx.protocol_version == STATELESS:
        await ctx.notify_resource_updated(NOTE)
    else:
        await ctx.session.send_resource_updated(NOTE)
    return "written"


async def subscribe(_ctx, _params):
    return EmptyResult()


# `MCPServer` serves `subscriptions/listen` by itself; what came before it is the application's.
server._lowlevel_server.add_request_handler("resources/subscribe", SubscribeRequestParams, subscribe)


class Events(EventStore):
    """Keeps everything: tests are short."""

    def __init__(self):
        self.events = []

    async def store_event(self, stream_id, message):
        self.events.append((stream_id, message))
        return str(len(self.events))

    async def replay_events_after(self, last_event_id, send_callback):
        last = int(last_event_id)
        stream_id = self.events[last - 1][0]
        for number, (stream, message) in enumerate(self.events[last:], last + 1):
            if stream == stream_id and message is not None:
                await send_callback(EventMessage(message, str(number)))
        return stream_id


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int)
    port = parser.parse_args().port
    if port is None:
        asyncio.run(server.run_stdio_async())
    else:
        listen = server.run_streamable_http_async(port=port, event_store=Events(), retry_interval=100)
        asyncio.run(listen)


if __name__ == "__main__":
    main()
