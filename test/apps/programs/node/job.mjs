// SPDX-License-Identifier: Apache-2.0
// Workers with a shared buffer, the thread pool of crypto and zlib, timers, files,
// a child behind pipes.
import { Worker, isMainThread, parentPort, workerData } from 'node:worker_threads';
import { createHash, pbkdf2 } from 'node:crypto';
import { promisify } from 'node:util';
import { gzip, gunzip } from 'node:zlib';
import { spawn } from 'node:child_process';
import { open } from 'node:fs/promises';
import { setTimeout as nap } from 'node:timers/promises';

const hash = (s) => createHash('sha256').update(s).digest('hex');

function worker() {
  const { n, shared } = workerData;
  const counts = new Int32Array(shared);
  let s = `worker ${n}`;
  for (let i = 0; i < 60000; i++) {
    s = hash(s);
    Atomics.add(counts, parseInt(s.slice(0, 2), 16), 1);
  }
  parentPort.postMessage([n, s]);
}

function workers() {
  const shared = new SharedArrayBuffer(4 * 256);
  const all = [0, 1, 2].map((n) => new Promise((done, fail) => {
    const w = new Worker(new URL(import.meta.url), { workerData: { n, shared } });
    w.on('message', done).on('error', fail);
  }));
  return Promise.all(all).then((r) => [...r, hash(new Int32Array(shared).join())]);
}

async function files() {
  const f = await open('written', 'w+');
  let s = 'file';
  for (let i = 0; i < 150; i++) {
    const text = JSON.stringify({ i, s }).repeat(200);
    const packed = await promisify(gzip)(text);
    if ((await promisify(gunzip)(packed)).toString() !== text) throw new Error('gzip');
    const key = await promisify(pbkdf2)(text, 'salt', 2000, 32, 'sha256');
    s = key.toString('hex');
    await f.write(`${i} ${s}\n`);
    await nap(10);
  }
  await f.close();
  return s;
}

function child() {
  const p = spawn('sort', ['-n']);
  let out = '';
  p.stdout.on('data', (d) => { out += d; });
  let n = 0;
  const feed = setInterval(() => {
    p.stdin.write(`${(n * 7919) % 1009}\n`);
    if (++n === 200) { clearInterval(feed); p.stdin.end(); }
  }, 10);
  return new Promise((done) => p.on('close', (code) => done([code, hash(out)])));
}

if (isMainThread) {
  for (const r of await Promise.all([workers(), files(), child()])) console.log(r);
} else {
  worker();
}
