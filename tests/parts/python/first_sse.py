"""The official Python client over HTTP+SSE, the transport of 2024-11-05: lists tools and calls one.

Prints one line of JSON on stdout: the server, the names of its tools, the texts of the answer.
"""

import asyncio
import json
import sys

from mcp import ClientSession
from mcp.client.sse import sse_client


async def main(url, tool, arguments):
    async with sse_client(url) as (read, write), ClientSession(read, write) as session:
        opened = await session.initialize()
        tools = await session.list_tools()
        answer = await session.call_tool(tool, json.loads(arguments))
        server = getattr(opened, "server_info", None) or opened.serverInfo
        print(
            json.dumps(
                {
                    "server": server.name,
                    "tools": [tool.name for tool in tools.tools],
                    "texts": [content.text for content in answer.content if content.type == "text"],
                }
            )
        )


asyncio.run(main(*sys.argv[1:]))
