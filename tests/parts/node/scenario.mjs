// What both TypeScript clients do: the arguments, the transport, the scripted scenario, and a line of JSON on stdout
// for every message received, then `{"done": …}`. The clients differ only in how they connect.

import { parseArgs } from 'node:util';

const USAGE = 'usage: client_vN.mjs (--url URL | --stdio COMMAND…) [--era legacy|modern] [--call JSON]… [--repeat N]';

const print = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);

// `--stdio` takes the rest of the command line, so that a server's own options are not ours.
export function settings(argv = process.argv.slice(2)) {
  const at = argv.indexOf('--stdio');
  const stdio = at < 0 ? undefined : argv.slice(at + 1);
  const { values } = parseArgs({
    args: at < 0 ? argv : argv.slice(0, at),
    options: {
      url: { type: 'string' },
      era: { type: 'string', default: 'legacy' },
      call: { type: 'string', multiple: true, default: [] },
      repeat: { type: 'string', default: '1' },
    },
  });
  if (!values.url === !stdio?.length) throw new Error(USAGE);
  return { url: values.url, stdio, era: values.era, calls: values.call.map((c) => JSON.parse(c)), repeat: Number(values.repeat) };
}

// Prints what `transport` receives, before the client sees it.
export function tapped(transport) {
  let deliver;
  Object.defineProperty(transport, 'onmessage', {
    get: () => deliver,
    set: (next) => {
      deliver = next && ((message, extra) => {
        print({ received: message });
        next(message, extra);
      });
    },
  });
  return transport;
}

async function look(client, capabilities) {
  if (capabilities.resources) {
    const { resources } = await client.listResources();
    if (resources.length > 0) await client.readResource({ uri: resources[0].uri });
  }
  if (capabilities.prompts) {
    const { prompts } = await client.listPrompts();
    const plain = prompts.find((prompt) => !prompt.arguments?.length);
    if (plain) await client.getPrompt({ name: plain.name });
  }
}

// The scenario; `call(client, params, options)` hides the one method whose signature differs between the versions.
export async function run({ client, transport, call, finish, era, calls, repeat }) {
  await client.connect(transport);
  const { tools } = await client.listTools();
  const outcome = { tools: tools.length, calls: 0, tool_errors: 0, progress: 0 };
  for (let round = 0; round < repeat; round += 1) {
    for (const { progress, ...params } of calls) {
      const options = progress ? { onprogress: () => (outcome.progress += 1) } : {};
      const result = await call(client, params, options);
      outcome.calls += 1;
      outcome.tool_errors += result.isError ? 1 : 0;
    }
  }
  await look(client, client.getServerCapabilities() ?? {});
  outcome.era = era();
  await finish(transport);
  await client.close();
  print({ done: outcome });
}

export function failed(error) {
  print({ failed: String(error?.stack ?? error) });
  process.exit(1);
}
