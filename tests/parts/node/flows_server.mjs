// The official TypeScript server with one tool for each flow of `sdk_flows`, in both eras.
//
// `flows_server.mjs --port PORT` listens on Streamable HTTP, with sessions and an event store for the legacy era; without
// it, standard input and output.

import { createServer } from 'node:http';
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { NodeStreamableHTTPServerTransport, toNodeHandler } from '@modelcontextprotocol/node';
import { createMcpHandler, inputRequired, inputResponse, McpServer } from '@modelcontextprotocol/server';
import { serveStdio } from '@modelcontextprotocol/server/stdio';
import * as z from 'zod/v4';

const NOTE = 'note://flows';
let noteText = 'empty';
// What became of each call of `wait`, by its label.
const waited = new Map();

const text = (value) => ({ content: [{ type: 'text', text: value }] });

async function report(ctx, progress, total, message) {
  const { progressToken } = ctx.mcpReq._meta ?? {};
  if (progressToken === undefined) return;
  const params = { progressToken, progress, total, message };
  await ctx.mcpReq.notify({ method: 'notifications/progress', params });
}

function askModel({ question }, ctx) {
  const answer = inputResponse(ctx.mcpReq.inputResponses, 'answer');
  if (answer.kind === 'sampling') return text(`${answer.result.model}: ${answer.result.content.text}`);
  const messages = [{ role: 'user', content: { type: 'text', text: question } }];
  return inputRequired({ inputRequests: { answer: inputRequired.createMessage({ messages, maxTokens: 100 }) } });
}

function book({ date }, ctx) {
  const seats = inputResponse(ctx.mcpReq.inputResponses, 'seats');
  if (seats.kind === 'elicit') {
    return text(seats.action === 'accept' ? `${seats.content.seats} seats on ${date}` : `${seats.action} on ${date}`);
  }
  const requestedSchema = { type: 'object', properties: { seats: { type: 'integer' } }, required: ['seats'] };
  return inputRequired({
    inputRequests: { seats: inputRequired.elicit({ message: `How many seats on ${date}?`, requestedSchema }) },
    requestState: `asked about ${date}`,
  });
}

async function count({ to }, ctx) {
  for (let step = 1; step <= to; step += 1) await report(ctx, step, to, `step ${step}`);
  // A client on a pipe may take the result before notifications that came with it.
  await sleep(200);
  return text(`counted to ${to}`);
}

async function wait({ label }, ctx) {
  waited.set(label, 'waiting');
  await report(ctx, 1, 2, 'waiting');
  try {
    await sleep(60_000, undefined, { signal: ctx.mcpReq.signal });
    waited.set(label, 'finished');
  } catch {
    waited.set(label, 'cancelled');
  }
  return text('nobody waits for this');
}

async function whatBecameOf({ label }) {
  for (let tries = 0; tries < 500 && [undefined, 'waiting'].includes(waited.get(label)); tries += 1) await sleep(20);
  return text(waited.get(label) ?? 'never heard of it');
}

// Its first progress is where the test cuts the connection.
async function cut(_, ctx) {
  await report(ctx, 1, 3, 'cut here');
  await sleep(1_000);
  await report(ctx, 2, 3, 'while nobody listened');
  await report(ctx, 3, 3, 'done');
  return text('resumed');
}

const large = ({ characters }) =>
  text(`${Array.from({ length: characters - 1 }, (_, at) => String.fromCharCode(0x20 + (at % 0x5f))).join('')}é`);

async function echo({ text: said, wait_ms }) {
  await sleep(wait_ms);
  return text(said);
}

// `http` is the handler of the stateless era, which has the subscriptions there.
const flows = (http) => ({ era }) => {
  const capabilities = { resources: { subscribe: true } };
  const mcp = new McpServer({ name: 'flows', version: '1' }, { capabilities });
  const tool = (name, inputSchema, call) => mcp.registerTool(name, { inputSchema: z.object(inputSchema) }, call);
  tool('ask_model', { question: z.string() }, askModel);
  tool('book', { date: z.string() }, book);
  tool('count', { to: z.number() }, count);
  tool('wait', { label: z.string() }, wait);
  tool('what_became_of', { label: z.string() }, whatBecameOf);
  tool('cut', {}, cut);
  tool('large', { characters: z.number() }, large);
  tool('echo', { text: z.string(), wait_ms: z.number() }, echo);
  tool('write_note', { text: z.string() }, async ({ text: written }) => {
    noteText = written;
    if (http && era === 'modern') http().notify.resourceUpdated(NOTE);
    else await mcp.server.sendResourceUpdated({ uri: NOTE });
    return text('written');
  });
  mcp.registerResource('note', NOTE, {}, () => ({ contents: [{ uri: NOTE, text: noteText }] }));
  if (era === 'legacy') mcp.server.setRequestHandler('resources/subscribe', () => ({}));
  return mcp;
};

// Keeps everything: tests are short.
class Events {
  #events = [];

  async storeEvent(streamId, message) {
    this.#events.push({ streamId, message });
    return String(this.#events.length);
  }

  async replayEventsAfter(lastEventId, { send }) {
    const last = Number(lastEventId);
    const { streamId } = this.#events[last - 1];
    for (const [at, event] of this.#events.entries()) {
      if (at >= last && event.streamId === streamId && event.message?.jsonrpc) await send(String(at + 1), event.message);
    }
    return streamId;
  }
}

async function legacy(sessions, request, response) {
  const id = request.headers['mcp-session-id'];
  let transport = sessions.get(id);
  if (id && !transport) return response.writeHead(404).end();
  if (!transport) {
    transport = new NodeStreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      eventStore: new Events(),
      retryInterval: 100,
      onsessioninitialized: (opened) => sessions.set(opened, transport),
      onsessionclosed: (closed) => sessions.delete(closed),
    });
    await flows()({ era: 'legacy' }).connect(transport);
  }
  return transport.handleRequest(request, response);
}

function listen(port) {
  const http = createMcpHandler(flows(() => http), { legacy: 'reject' });
  const modern = toNodeHandler(http);
  const sessions = new Map();
  const isModern = (request) => request.headers['mcp-protocol-version'] >= '2026-07-28';
  createServer((request, response) => (isModern(request) ? modern(request, response) : legacy(sessions, request, response)))
    .listen(port, '127.0.0.1');
}

const { port } = parseArgs({ options: { port: { type: 'string' } } }).values;
if (port) listen(Number(port));
else serveStdio(flows());
