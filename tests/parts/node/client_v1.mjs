// The official TypeScript client, 1.x: the legacy era only.

import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { failed, run, settings, tapped } from './scenario.mjs';

async function main() {
  const { url, stdio, ...scenario } = settings();
  const transport = tapped(
    url
      ? new StreamableHTTPClientTransport(new URL(url))
      : new StdioClientTransport({ command: stdio[0], args: stdio.slice(1), env: process.env }),
  );
  await run({
    ...scenario,
    client: new Client({ name: 'undercurrent-tests-v1', version: '1' }),
    transport,
    call: (client, params, options) => client.callTool(params, undefined, options),
    finish: (opened) => (url ? opened.terminateSession() : undefined),
    era: () => 'legacy',
  });
}

main().catch(failed);
