// The official TypeScript clients through the flows of `sdk_flows`: prints one JSON object, flow by flow what came of it.
// What is asked and how it is told are as in flows.py.

import { createHash } from 'node:crypto';
import { parseArgs } from 'node:util';

const NOTE = 'note://flows';
const LARGE = 3_000_000;
const PARALLEL = 24;
const PATIENCE_MS = 60_000;

export function settings(argv = process.argv.slice(2)) {
  const at = argv.indexOf('--stdio');
  const stdio = at < 0 ? undefined : argv.slice(at + 1);
  const options = {
    url: { type: 'string' },
    era: { type: 'string', default: 'legacy' },
    flow: { type: 'string', multiple: true, default: [] },
  };
  const { values } = parseArgs({ args: at < 0 ? argv : argv.slice(0, at), options });
  if (!values.url === !stdio?.length) throw new Error('either --url URL or --stdio COMMAND…');
  return { ...values, stdio };
}

// A client as both versions have it: `call(params, options)`, `read`, `watch(uri, heard)` and `asked`, what it was asked.
export class Flows {
  constructor(peer) {
    this.peer = peer;
  }

  async text(name, args, options) {
    const { content } = await this.peer.call({ name, arguments: args }, { timeout: PATIENCE_MS, ...options });
    return content[0].text;
  }

  async withProgress(name, args) {
    const steps = [];
    const onprogress = ({ progress, total, message }) => steps.push([progress, total, message]);
    const text = await this.text(name, args, { onprogress });
    return { steps, text };
  }

  sampling() {
    return this.text('ask_model', { question: '6 × 7' });
  }

  async elicitation() {
    return [await this.text('book', { date: 'Monday' }), await this.text('book', { date: 'Tuesday' })];
  }

  progress() {
    return this.withProgress('count', { to: 5 });
  }

  async cancellation() {
    const label = `node-${process.pid}`;
    const cancelling = new AbortController();
    const begun = () => cancelling.abort('enough');
    const call = this.text('wait', { label }, { signal: cancelling.signal, onprogress: begun });
    const ended = await call.then(() => 'answered', () => 'cancelled');
    return { call: ended, server: await this.text('what_became_of', { label }) };
  }

  async large() {
    const text = await this.text('large', { characters: LARGE });
    return { characters: text.length, sha256: createHash('sha256').update(text).digest('hex') };
  }

  parallel() {
    const call = (_, n) => this.text('echo', { text: `call ${n}`, wait_ms: 10 * (n % 7) });
    return Promise.all(Array.from({ length: PARALLEL }, call));
  }

  async subscription() {
    const before = await this.peer.read(NOTE);
    let settle;
    const updated = new Promise((resolve) => { settle = resolve; });
    const stop = await this.peer.watch(NOTE, settle);
    await this.text('write_note', { text: 'first' });
    const uri = await updated;
    await stop();
    const after = await this.peer.read(NOTE);
    await this.text('write_note', { text: before });
    return { before, updated: uri, after };
  }

  resumption() {
    return this.withProgress('cut', {});
  }

  async run(name) {
    this.peer.asked.length = 0;
    const outcome = await this[name]();
    return { outcome, asked: [...this.peer.asked] };
  }
}

export const sampled = (asked) => ({ params }) => {
  const { text } = params.messages[0].content;
  asked.push(`sampling: ${text}`);
  return { role: 'assistant', content: { type: 'text', text: `answer to ${text}` }, model: 'test-model' };
};

export const elicited = (asked) => ({ params }) => {
  asked.push(`elicitation: ${params.message}`);
  return params.message.includes('Monday') ? { action: 'accept', content: { seats: 3 } } : { action: 'decline' };
};

export async function main(connect) {
  const print = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);
  try {
    const { flow, ...where } = settings();
    const peer = await connect(where);
    const flows = new Flows(peer);
    const done = {};
    for (const name of flow) done[name] = await flows.run(name);
    await peer.close();
    print({ done });
  } catch (error) {
    print({ failed: String(error?.stack ?? error) });
    process.exitCode = 1;
  }
  // A reconnecting stream would keep the process.
  setTimeout(() => process.exit(), 100).unref();
}
