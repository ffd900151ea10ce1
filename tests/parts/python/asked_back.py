"""An official client that a server asks something meanwhile: calls tools, and prints their texts as one JSON list.

Whichever era the server knows; only one with sessions can ask like this. Sampling is answered with `sampled`,
elicitation with the name `elicited`.
"""

import asyncio
import json
import sys

from mcp import Client
from mcp_types import CreateMessageResult, ElicitResult, TextContent


async def sample(_context, _params):
    return CreateMessageResult(role="assistant", content=TextContent(type="text", text="sampled"), model="none")


async def elicit(_context, _params):
    return ElicitResult(action="accept", content={"name": "elicited"})


async def main(url, names):
    texts = []
    async with Client(url, mode="auto", sampling_callback=sample, elicitation_callback=elicit) as client:
        for name in names:
            arguments = {"prompt": "p", "maxTokens": 10} if "sampling" in name else {}
            result = await client.call_tool(name, arguments)
            texts.append(" ".join(block.text for block in result.content))
    print(json.dumps(texts))


asyncio.run(main(sys.argv[1], sys.argv[2:]))
