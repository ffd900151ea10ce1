"""The official Python client through the flows of `sdk_flows`: prints one JSON object, flow by flow what came of it."""

import argparse
import asyncio
import hashlib
import json
import os
import sys
import traceback

from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CreateMessageResult, ElicitResult, ResourceUpdatedNotification, TextContent

NOTE = "note://flows"
LARGE = 3_000_000
PARALLEL = 24
PATIENCE_S = 60


class Flows:
    def __init__(self):
        self.client = None
        self.asked = []
        self.updated = asyncio.Queue()

    async def sampled(self, _context, params):
        text = params.messages[0].content.text
        self.asked.append(f"sampling: {text}")
        content = TextContent(type="text", text=f"answer to {text}")
        return CreateMessageResult(role="assistant", content=content, model="test-model")

    async def elicited(self, _context, params):
        self.asked.append(f"elicitation: {params.message}")
        if "Monday" in params.message:
            return ElicitResult(action="accept", content={"seats": 3})
        return ElicitResult(action="decline")

    async def heard(self, message):
        if isinstance(message, ResourceUpdatedNotification):
            await self.updated.put(str(message.params.uri))

    async def text(self, tool, arguments, **options):
        result = await self.client.call_tool(tool, arguments, **options)
        return result.content[0].text

    async def with_progress(self, tool, arguments):
        steps = []

        async def on_progress(progress, total, message):
            steps.append([int(progress), int(total), message])

        text = await self.text(tool, arguments, progress_callback=on_progress)
        return {"steps": steps, "text": text}

    async def sampling(self):
        return await self.text("ask_model", {"question": "6 × 7"})

    async def elicitation(self):
        return [await self.text("book", {"date": day}) for day in ("Monday", "Tuesday")]

    async def progress(self):
        return await self.with_progress("count", {"to": 5})

    async def cancellation(self):
        label = f"python-{os.getpid()}"
        begun = asyncio.Event()

        async def on_progress(*_):
            begun.set()

        call = asyncio.create_task(self.text("wait", {"label": label}, progress_callback=on_progress))
        await begun.wait()
        call.cancel()
        ended = (await asyncio.gather(call, return_exceptions=True))[0]
        call_ended = "cancelled" if isinstance(ended, asyncio.CancelledError) else repr(ended)
        return {"call": call_ended, "server": await self.text("what_became_of", {"label": label})}

    async def large(self):
        text = await self.text("large", {"characters": LARGE})
        return {"characters": len(text), "sha256": hashlib.sha256(text.encode()).hexdigest()}

    async def parallel(self):
        calls = [self.text("echo", {"text": f"call {n}", "wait_ms": 10 * (n % 7)}) for n in range(PARALLEL)]
        return await asyncio.gather(*calls)

    async def subscription(self):
        before = (await self.client.read_resource(NOTE)).contents[0].text
        if modern(self.client):
            async with self.client.listen(resource_subscriptions=[NOTE]) as events:
                await self.text("write_note", {"text": "first"})
                updated = (await anext(aiter(events))).uri
        else:
            await self.client.subscribe_resource(NOTE)
            await self.text("write_note", {"text": "first"})
            updated = await self.updated.get()
        after = (await self.client.read_resource(NOTE)).contents[0].text
        await self.text("write_note", {"text": before})
        return {"before": before, "updated": str(updated), "after": after}

    async def resumption(self):
        return await self.with_progress("cut", {})

    async def run(self, name):
        self.asked.clear()
        outcome = await asyncio.wait_for(getattr(self, name)(), PATIENCE_S)
        return {"outcome": outcome, "asked": list(self.asked)}


def modern(client):
    return client.protocol_version == "2026-07-28"


async def run(args):
    if args.url:
        transport = streamable_http_client(args.url, max_sse_event_size=4 * LARGE)
    else:
        command, *rest = args.command
        transport = stdio_client(StdioServerParameters(command=command, args=rest, env=dict(os.environ)))
    flows = Flows()
    client = Client(
        transport,
        mode="auto" if args.era == "modern" else "legacy",
        sampling_callback=flows.sampled,
        elicitation_callback=flows.elicited,
        message_handler=flows.heard,
        cache=None,
    )
    async with client:
        flows.client = client
        assert modern(client) == (args.era == "modern"), client.protocol_version
        return {name: await flows.run(name) for name in args.flow}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--url")
    where.add_argument("--stdio", action="store_true", help="everything after it is the command")
    parser.add_argument("--era", choices=["legacy", "modern"], default="legacy")
    parser.add_argument("--flow", action="append", default=[])
    words = sys.argv[1:]
    at = words.index("--stdio") + 1 if "--stdio" in words else len(words)
    args = parser.parse_args(words[:at])
    args.command = words[at:]
    try:
        print(json.dumps({"done": asyncio.run(run(args))}), flush=True)
    except Exception:
        print(json.dumps({"failed": traceback.format_exc()}), flush=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
