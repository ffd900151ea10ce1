"""An official client that brings a key, over HTTPS: opens a session and calls a tool. `signed_in.py URL KEY`; the
certificate that it trusts is in `SSL_CERT_FILE`."""

import asyncio
import os
import ssl
import sys

import httpx2
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client


async def main(url, key):
    trusted = ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"])
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx2.AsyncClient(headers=headers, verify=trusted, timeout=20) as http:
        async with streamable_http_client(url, http_client=http) as (read, write, *_):
            async with ClientSession(read, write) as session:
                await session.initialize()
                result = await session.call_tool("get_balance", {})
                print(result.content[0].text)


asyncio.run(main(*sys.argv[1:]))
