// Runs a client with a gateway of its own before its server: through_gateway.mjs BINARY CLIENT URL. The gateway has the
// URL as its one upstream, and ends with the client; its log goes where the client's does.
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const [binary, client, url] = process.argv.slice(2);
// Less than the suite gives a client: whoever kills this from outside would leave the gateway behind.
const PATIENCE_MS = 100_000;

function freePort() {
  return new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

const ended = (child) => new Promise((resolve) => child.on('exit', (code) => resolve(code ?? 1)));

async function ready(admin) {
  for (;;) {
    const response = await fetch(`http://127.0.0.1:${admin}/readyz`).catch(() => undefined);
    if (response?.ok) return;
    await sleep(20);
  }
}

const data = mkdtempSync(join(tmpdir(), 'undercurrent-conformance-'));
const [listen, admin] = [await freePort(), await freePort()];
const upstream = `suite=${url}`;
const gateway = spawn(
  binary,
  ['serve', '--listen', `127.0.0.1:${listen}`, '--admin', `127.0.0.1:${admin}`, '--data', data, '--upstream', upstream],
  { stdio: ['ignore', 'ignore', 'inherit'], env: { ...process.env, UNDERCURRENT__ENGINE__WORKERS: '1' } },
);
const gone = ended(gateway);
let running;
const deadline = setTimeout(() => { running?.kill('SIGKILL'); gateway.kill('SIGKILL'); }, PATIENCE_MS);
await Promise.race([ready(admin), gone]);
running = spawn(
  process.execPath,
  ['--preserve-symlinks', '--preserve-symlinks-main', client, `http://localhost:${listen}/mcp/suite`],
  { stdio: ['ignore', 'inherit', 'inherit'] },
);
const code = await ended(running);
gateway.kill('SIGTERM');
await gone;
clearTimeout(deadline);
rmSync(data, { recursive: true, force: true });
process.exitCode = code;
