// The official TypeScript client, 2.x: the stateless era of 2026-07-28, or the legacy one where told so.

import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { StdioClientTransport } from '@modelcontextprotocol/client/stdio';
import { failed, run, settings, tapped } from './scenario.mjs';

const STATELESS = '2026-07-28';

async function main() {
  const { url, stdio, era, ...scenario } = settings();
  const transport = tapped(
    url
      ? new StreamableHTTPClientTransport(new URL(url))
      : new StdioClientTransport({ command: stdio[0], args: stdio.slice(1), env: process.env }),
  );
  const mode = era === 'modern' ? { pin: STATELESS } : 'legacy';
  const client = new Client({ name: 'undercurrent-tests-v2', version: '1' }, { versionNegotiation: { mode } });
  await run({
    ...scenario,
    client,
    transport,
    call: (opened, params, options) => opened.callTool(params, options),
    finish: (opened) => (url && era !== 'modern' ? opened.terminateSession() : undefined),
    era: () => client.getProtocolEra(),
  });
}

main().catch(failed);
