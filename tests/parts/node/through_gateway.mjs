// Runs a client with a gateway of its own before its server: through_gateway.mjs BINARY CLIENT URL. The gateway has the
// URL as its one upstream, and ends with the client; its log goes where the client's does.
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

const [binary, client, url] = process.argv.slice(2);
// Less than the suite gives a client: whoever kills this from outside would leave the gateway behind.
const PATIENCE_MS = 90_000;

const ended = (child) => new Promise((resolve) => child.on('exit', (code) => resolve(code ?? 1)));

/// The endpoint, from the screen that the gateway shows once it listens; undefined if it ends without one.
async function endpoint(gateway) {
  for await (const line of createInterface({ input: gateway.stdout })) {
    const [, port] = line.match(/:(\d+)\/mcp\/suite\b/) ?? [];
    if (port) return `http://localhost:${port}/mcp/suite`;
  }
}

async function run(data) {
  const any = '127.0.0.1:0';
  const words = ['serve', '--listen', any, '--admin', any, '--data', data, '--upstream', `suite=${url}`];
  const gateway = spawn(binary, words, { stdio: ['ignore', 'pipe', 'inherit'] });
  const gone = ended(gateway);
  const children = [gateway];
  const deadline = setTimeout(() => children.forEach((child) => child.kill('SIGKILL')), PATIENCE_MS);
  const through = await endpoint(gateway);
  if (!through) throw new Error('the gateway did not start');
  const preserve = ['--preserve-symlinks', '--preserve-symlinks-main'];
  const running = spawn(process.execPath, [...preserve, client, through], { stdio: ['ignore', 'inherit', 'inherit'] });
  children.push(running);
  const code = await ended(running);
  gateway.kill('SIGTERM');
  await gone;
  clearTimeout(deadline);
  return code;
}

const data = mkdtempSync(join(tmpdir(), 'undercurrent-conformance-'));
const code = await run(data).catch((error) => {
  console.error(error);
  return 1;
});
rmSync(data, { recursive: true, force: true });
process.exit(code);
