// The client under the conformance suite's client scenarios: conformance_client.mjs URL, with the scenario's name and
// context in the environment. It does what the scenario needs a client to do, with the official SDK; the suite's own
// server on the other side does the judging.
import { setTimeout as sleep } from 'node:timers/promises';
import {
  Client,
  ClientCredentialsProvider,
  CrossAppAccessProvider,
  PrivateKeyJwtProvider,
  requestJwtAuthorizationGrant,
  StreamableHTTPClientTransport,
} from '@modelcontextprotocol/client';
import { Account, signedIn } from './conformance_oauth.mjs';

const url = new URL(process.argv[2]);
const scenario = process.env.MCP_CONFORMANCE_SCENARIO;
const context = JSON.parse(process.env.MCP_CONFORMANCE_CONTEXT ?? '{}');
const modern = process.env.MCP_CONFORMANCE_PROTOCOL_VERSION === '2026-07-28';

const AUTO = { versionNegotiation: { mode: 'auto' } };
const OPEN_MS = 5_000;
const METADATA = 'https://conformance-test.local/client-metadata.json';

const client = (options = {}) =>
  new Client({ name: 'undercurrent-conformance-client', version: '1.0.0' }, { capabilities: {}, ...options });

async function connected(options, transport) {
  const connecting = client(options);
  await connecting.connect(new StreamableHTTPClientTransport(url, transport));
  return connecting;
}

/// Connects, does something, leaves.
async function within(options, transport, act) {
  const session = await connected(options, transport);
  await act(session);
  await session.close();
}

const era = () => (modern ? AUTO : {});

/// Some of the suite's servers know no `server/discover`: what it would say is answered here, all else is theirs.
async function discoverLocally(to, init) {
  const message = typeof init?.body === 'string' ? JSON.parse(init.body) : {};
  if (message.method !== 'server/discover') return fetch(to, init);
  const result = {
    resultType: 'complete',
    supportedVersions: ['2026-07-28'],
    capabilities: { tools: {}, resources: {}, prompts: {} },
    ttlMs: 0,
    cacheScope: 'private',
    _meta: { 'io.modelcontextprotocol/serverInfo': { name: 'suite', version: '1.0.0' } },
  };
  return Response.json({ jsonrpc: '2.0', id: message.id, result });
}

/// A fetch that tells when the GET stream is open, or refused: the suite's older servers put requests of their own on it,
/// and lose them when it is not there yet.
function listening() {
  let settle;
  const settled = new Promise((resolve) => { settle = resolve; });
  const telling = async (to, init) => {
    try {
      return await fetch(to, init);
    } finally {
      if (init?.method === 'GET') settle();
    }
  };
  return { fetch: telling, open: Promise.race([settled, sleep(OPEN_MS)]) };
}

const LOCAL = { fetch: discoverLocally };

async function list() {
  await within(era(), {}, (session) => session.listTools());
}

async function addNumbers() {
  await within(era(), {}, async (session) => {
    await session.listTools();
    await session.callTool({ name: 'add_numbers', arguments: { a: 5, b: 3 } });
  });
}

async function callOnly(name, options) {
  const { fetch: telling, open } = listening();
  await within(options, { fetch: telling }, async (session) => {
    await session.listTools();
    await open;
    await session.callTool({ name, arguments: {} });
  });
}

async function acceptDefaults() {
  const accepting = client({ capabilities: { elicitation: { form: { applyDefaults: true } } } });
  accepting.setRequestHandler('elicitation/create', async () => ({ action: 'accept', content: {} }));
  const { fetch: telling, open } = listening();
  await accepting.connect(new StreamableHTTPClientTransport(url, { fetch: telling }));
  await accepting.listTools();
  await open;
  await accepting.callTool({ name: 'test_client_elicitation_defaults', arguments: {} });
  await accepting.close();
}

async function requestMetadata() {
  const capabilities = { roots: { listChanged: true }, sampling: {}, elicitation: {} };
  await within({ capabilities, ...AUTO }, {}, async () => {});
}

async function rounds() {
  const asked = client({ capabilities: { elicitation: {} }, ...AUTO });
  asked.setRequestHandler('elicitation/create', async () => ({ action: 'accept', content: { confirmed: true } }));
  await asked.connect(new StreamableHTTPClientTransport(url, LOCAL));
  for (const name of ['test_mrtr_echo_state', 'test_mrtr_no_state', 'test_mrtr_unrelated']) {
    await asked.callTool({ name, arguments: {} });
  }
  // A result without its type may be refused, but not tried again.
  await asked.callTool({ name: 'test_mrtr_no_result_type', arguments: {} }).catch(() => {});
  await asked.close();
}

async function standardHeaders() {
  await within(AUTO, LOCAL, async (session) => {
    const [tool] = (await session.listTools()).tools;
    if (tool) await session.callTool({ name: tool.name, arguments: {} });
    const [resource] = (await session.listResources()).resources;
    if (resource) await session.readResource({ uri: resource.uri });
    const [prompt] = (await session.listPrompts()).prompts;
    if (prompt) await session.getPrompt({ name: prompt.name, arguments: {} });
  });
}

async function customHeaders() {
  await within(AUTO, LOCAL, async (session) => {
    await session.listTools();
    for (const call of context.toolCalls ?? []) await session.callTool(call);
  });
}

async function invalidToolHeaders() {
  await within(AUTO, LOCAL, async (session) => {
    for (const { name } of (await session.listTools()).tools) {
      await session.callTool({ name, arguments: { region: 'us-west1' } }).catch(() => {});
    }
  });
}

async function echoSchema() {
  await within(era(), {}, async (session) => {
    const { tools } = await session.listTools();
    const { inputSchema } = tools.find((tool) => tool.name === 'json_schema_2020_12_tool');
    await session.callTool({ name: 'json_schema_echo', arguments: { schema: inputSchema } });
  });
}

/// A user signs in, in whichever way the servers ask for.
async function signIn() {
  const account = new Account({ name: 'undercurrent-conformance-client', metadataUrl: METADATA });
  await within(AUTO, { fetch: signedIn(account, url) }, useTool);
}

async function signInRegistered() {
  const information = { client_id: context.client_id, client_secret: context.client_secret };
  const account = new Account({ name: 'undercurrent-conformance-client', information });
  await within({}, { fetch: signedIn(account, url) }, useTool);
}

async function useTool(session) {
  await session.listTools();
  await session.callTool({ name: 'test-tool', arguments: {} });
}

/// A client that signs in as itself.
async function signInAsClient(authProvider) {
  await within({}, { authProvider }, (session) => session.listTools());
}

const privateKey = () => new PrivateKeyJwtProvider({
  clientId: context.client_id,
  privateKey: context.private_key_pem,
  algorithm: context.signing_algorithm ?? 'ES256',
});

const clientSecret = () =>
  new ClientCredentialsProvider({ clientId: context.client_id, clientSecret: context.client_secret });

const crossApp = () => new CrossAppAccessProvider({
  clientId: context.client_id,
  clientSecret: context.client_secret,
  assertion: async ({ authorizationServerUrl, resourceUrl, fetchFn }) => {
    const { jwtAuthGrant } = await requestJwtAuthorizationGrant({
      tokenEndpoint: context.idp_token_endpoint,
      audience: authorizationServerUrl,
      resource: resourceUrl,
      idToken: context.idp_id_token,
      clientId: context.idp_client_id,
      fetchFn,
    });
    return jwtAuthGrant;
  },
});

const scenarios = {
  initialize: list,
  tools_call: addNumbers,
  'elicitation-sep1034-client-defaults': acceptDefaults,
  'sse-retry': () => callOnly('test_reconnection', {}),
  'request-metadata': requestMetadata,
  'sep-2322-client-request-state': rounds,
  'http-standard-headers': standardHeaders,
  'http-custom-headers': customHeaders,
  'http-invalid-tool-headers': invalidToolHeaders,
  'json-schema-ref-no-deref': list,
  'json-schema-2020-12-preservation': echoSchema,
  'auth/pre-registration': signInRegistered,
  'auth/client-credentials-jwt': () => signInAsClient(privateKey()),
  'auth/client-credentials-basic': () => signInAsClient(clientSecret()),
  'auth/cross-app-access-complete-flow': () => signInAsClient(crossApp()),
  'auth/enterprise-managed-authorization': () => signInAsClient(crossApp()),
};

// Key-bound tokens and workload identity are extensions that this SDK does not know.
const unknown = ['auth/dpop', 'auth/dpop-nonce', 'auth/wif-jwt-bearer'];

try {
  const fallback = scenario.startsWith('auth/') && !unknown.includes(scenario) ? signIn : undefined;
  const run = scenarios[scenario] ?? fallback;
  if (!run) throw new Error(`no such scenario here: ${scenario}`);
  await run();
  process.exit(0);
} catch (error) {
  console.error(error);
  process.exit(1);
}
