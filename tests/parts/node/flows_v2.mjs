// The flows by the official TypeScript client, 2.x, in either era.

import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { StdioClientTransport } from '@modelcontextprotocol/client/stdio';
import { elicited, main, sampled } from './flows.mjs';

const STATELESS = '2026-07-28';

await main(async ({ url, stdio, era }) => {
  const asked = [];
  const client = new Client(
    { name: 'undercurrent-flows-v2', version: '1' },
    {
      capabilities: { sampling: {}, elicitation: { form: {} } },
      versionNegotiation: { mode: era === 'modern' ? { pin: STATELESS } : 'legacy' },
    },
  );
  client.setRequestHandler('sampling/createMessage', sampled(asked));
  client.setRequestHandler('elicitation/create', elicited(asked));
  const transport = url
    ? new StreamableHTTPClientTransport(new URL(url))
    : new StdioClientTransport({ command: stdio[0], args: stdio.slice(1), env: process.env });
  await client.connect(transport);
  const watch = async (uri, heard) => {
    client.setNotificationHandler('notifications/resources/updated', ({ params }) => heard(params.uri));
    if (era !== 'modern') {
      await client.subscribeResource({ uri });
      return () => {};
    }
    const subscription = await client.listen({ resourceSubscriptions: [uri] });
    return () => subscription.close();
  };
  return {
    asked,
    watch,
    call: (params, options) => client.callTool(params, options),
    read: async (uri) => (await client.readResource({ uri })).contents[0].text,
    close: async () => {
      if (url && era !== 'modern') await transport.terminateSession();
      await client.close();
    },
  };
});
