// The flows by the official TypeScript client, 1.x: the legacy era only.

import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import {
  CreateMessageRequestSchema,
  ElicitRequestSchema,
  ResourceUpdatedNotificationSchema,
} from '@modelcontextprotocol/sdk/types.js';
import { elicited, main, sampled } from './flows.mjs';

await main(async ({ url, stdio }) => {
  const asked = [];
  const capabilities = { sampling: {}, elicitation: {} };
  const client = new Client({ name: 'undercurrent-flows-v1', version: '1' }, { capabilities });
  client.setRequestHandler(CreateMessageRequestSchema, sampled(asked));
  client.setRequestHandler(ElicitRequestSchema, elicited(asked));
  const transport = url
    ? new StreamableHTTPClientTransport(new URL(url))
    : new StdioClientTransport({ command: stdio[0], args: stdio.slice(1), env: process.env });
  await client.connect(transport);
  return {
    asked,
    watch: async (uri, heard) => {
      client.setNotificationHandler(ResourceUpdatedNotificationSchema, ({ params }) => heard(params.uri));
      await client.subscribeResource({ uri });
      return () => {};
    },
    call: (params, options) => client.callTool(params, undefined, options),
    read: async (uri) => (await client.readResource({ uri })).contents[0].text,
    close: async () => {
      if (url) await transport.terminateSession();
      await client.close();
    },
  };
});
