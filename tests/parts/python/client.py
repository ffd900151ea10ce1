"""The official Python client: the same scenario as the TypeScript ones, in either era.

Prints a line of JSON on stdout for every message received, then `{"done": ...}`.
"""

import argparse
import asyncio
import json
import os
import sys
import traceback
from contextlib import asynccontextmanager

import anyio
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client

STATELESS = "2026-07-28"


def say(value):
    print(json.dumps(value), flush=True)


class Tapped:
    """A receive stream that prints what passes; all else is the inner stream's."""

    def __init__(self, inner):
        self._inner = inner

    async def receive(self):
        item = await self._inner.receive()
        if not isinstance(item, Exception):
            say({"received": item.message.model_dump(mode="json", by_alias=True, exclude_unset=True)})
        return item

    def __aiter__(self):
        return self

    async def __anext__(self):
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def __aenter__(self):
        await self._inner.__aenter__()
        return self

    async def __aexit__(self, *exc):
        return await self._inner.__aexit__(*exc)

    def __getattr__(self, name):
        return getattr(self._inner, name)


@asynccontextmanager
async def tapped(transport):
    async with transport as streams:
        read, write, *rest = streams
        yield (Tapped(read), write, *rest)


async def look(client):
    """Lists and reads what the server has besides tools."""
    capabilities = client.server_capabilities
    if capabilities.resources:
        listed = await client.list_resources()
        if listed.resources:
            await client.read_resource(str(listed.resources[0].uri))
    if capabilities.prompts:
        listed = await client.list_prompts()
        plain = next((prompt for prompt in listed.prompts if not prompt.arguments), None)
        if plain:
            await client.get_prompt(plain.name)


async def run(args):
    if args.url:
        transport = streamable_http_client(args.url)
    else:
        command, *rest = args.command
        transport = stdio_client(StdioServerParameters(command=command, args=rest, env=dict(os.environ)))
    outcome = {"tools": 0, "calls": 0, "tool_errors": 0, "progress": 0}

    async def on_progress(*_):
        outcome["progress"] += 1

    # `auto` asks the server: a pinned version would skip `server/discover`.
    mode = "auto" if args.era == "modern" else "legacy"
    async with Client(tapped(transport), mode=mode) as client:
        outcome["tools"] = len((await client.list_tools()).tools)
        for call in [json.loads(c) for c in args.call] * args.repeat:
            progress = on_progress if call.get("progress") else None
            result = await client.call_tool(call["name"], call.get("arguments"), progress_callback=progress)
            outcome["calls"] += 1
            outcome["tool_errors"] += bool(result.is_error)
        await look(client)
        outcome["era"] = "modern" if client.protocol_version == STATELESS else "legacy"
    say({"done": outcome})


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--url")
    where.add_argument("--stdio", action="store_true", help="everything after it is the command")
    parser.add_argument("--era", choices=["legacy", "modern"], default="legacy")
    parser.add_argument("--call", action="append", default=[])
    parser.add_argument("--repeat", type=int, default=1)
    # The command's own words, `--` and options among them, are none of ours.
    words = sys.argv[1:]
    at = words.index("--stdio") + 1 if "--stdio" in words else len(words)
    args = parser.parse_args(words[:at])
    args.command = words[at:]
    try:
        asyncio.run(run(args))
    except Exception:
        say({"failed": traceback.format_exc()})
        sys.exit(1)


if __name__ == "__main__":
    main()
