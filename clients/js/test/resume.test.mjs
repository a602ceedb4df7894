import assert from 'node:assert/strict';
import { test } from 'node:test';
import { WebSocket } from 'ws';
import { batch, changed, connect, failure, History, live, open, serve, until } from './server.mjs';

// A small generator of pseudo-random numbers (mulberry32), so that a failure can be replayed.
function random(seed) {
  return (below) => {
    seed = (seed + 0x6d2b79f5) | 0;
    let x = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x;
    return ((x ^ (x >>> 14)) >>> 0) % below;
  };
}

function write(history, r) {
  const changes = [];
  const rows = new Map(history.rows);
  for (let n = 1 + r(5); n > 0; n--) {
    const id = String.fromCharCode(97 + r(12));
    const kind = !rows.has(id) ? 'INSERT' : r(3) === 0 ? 'DELETE' : 'UPDATE';
    const to = String.fromCharCode(97 + r(12));
    const moves = kind === 'UPDATE' && !rows.has(to);
    if (kind === 'DELETE' || moves) rows.delete(id);
    if (kind !== 'DELETE') rows.set(moves ? to : id);
    changes.push([kind, moves ? to : id, history.log.length * 10 + n, id]);
  }
  history.write(...(r(60) === 0 ? [['TRUNCATE']] : changes));
}

test('whatever breaks wherever, the list is what the table is', async (t) => {
  const runs = Number(process.env.RUNS ?? 30);
  const first = Number(process.env.SEED ?? 1);
  let anew = 0;
  let resumed = 0;
  for (let seed = first; seed < first + runs; seed++) {
    const r = random(seed);
    const history = new History();
    for (let n = r(8); n > 0; n--) write(history, r);
    let server = await serve(t, history);
    const { port } = server;
    const { list, client } = open(t, { server, query: r(2) ? changed : batch });
    for (let step = 0; step < 25; step++) {
      for (let n = r(6); n > 0; n--) write(history, r);
      switch (r(10)) {
        case 0: server.cut(); break;
        case 1: server.cut(1001 + 11 * r(2)); break;
        case 2: server.cutAfter(r(12)); break;
        case 3: server.cutAfter(r(12), 1012); break;
        case 4: if (['live', 'syncing'].includes(list.getSnapshot().status)) client.terminate(); break;
        case 5: if (r(3) === 0) history.expire(); break;
        case 6: if (r(5) === 0) {
          await server.close(1012);
          if (r(2)) write(history, r);
          const next = await serve(t, history, port);
          next.operations = server.operations;
          server = next;
        } break;
        case 7: if (r(8) === 0) {
          history.name += "'"; // a restored dump
          server.cut();
        } break;
        default: await new Promise((resolve) => setImmediate(resolve));
      }
      if (r(2) === 0) await until(list, live);
    }
    server.cutAfter(Infinity);
    history.write(['INSERT', 'end', seed]);
    const { rows } = await until(list, (s) => live(s) && s.rows.some(({ id }) => id === 'end')).catch((err) => {
      throw new Error(`SEED=${seed}: ${err.message}`, { cause: err });
    });
    const byId = (a, b) => (a.id < b.id ? -1 : 1);
    assert.deepEqual([...rows].sort(byId), [...history.rows.values()].sort(byId), `SEED=${seed}`);
    anew += server.operations.filter((o) => o.after === undefined).length;
    resumed += server.operations.filter((o) => o.after !== undefined).length;
    list.close();
    await server.close();
  }
  t.diagnostic(`${runs} runs: ${resumed} operations with a cursor, ${anew} with a snapshot`);
  assert.ok(resumed > runs && anew > runs, 'too little has happened');
});

test('a socket that was given up and still speaks is not listened to', async (t) => {
  const history = new History();
  const server = await serve(t, history);
  // As when a network comes back: the peer has not heard of the end, and what it sent arrives.
  class Lingering extends WebSocket {
    close(code, reason) {
      if (code !== 4499) super.close(code, reason);
    }
  }
  const { list, client } = open(t, { server, client: connect(server, { webSocketImpl: Lingering }) });
  await until(list, live);
  client.terminate();
  await until(list, (s) => s.status === 'syncing');
  history.write(['INSERT', 'a', 1]);
  await until(list, (s) => live(s) && s.rows.length === 1);
  history.write(['UPDATE', 'a', 2], ['INSERT', 'b', 2]);
  const { rows } = await until(list, (s) => s.rows.length === 2);
  assert.deepEqual(rows, [{ id: 'a', n: 2 }, { id: 'b', n: 2 }]);
  server.cut();
});

test('a place that is gone: the old rows stay until the new ones are whole', async (t) => {
  for (const code of ['CURSOR_EXPIRED', 'CURSOR_INVALID', 'OVERFLOW', 'INITIAL_INTERRUPTED', 'SCHEMA_CHANGED']) {
    const history = new History();
    history.write(['INSERT', 'a', 1], ['INSERT', 'b', 1]);
    const server = await serve(t, history);
    const { list, seen } = open(t, { server });
    await until(list, live);
    seen.length = 0;
    history.write(['DELETE', 'a'], ['UPDATE', 'b', 2], ['INSERT', 'c', 2], ['INSERT', 'd', 2]);
    server.script = ({ after }) => {
      if (after) throw failure(code);
    };
    if (code === 'OVERFLOW') server.cutAfter(6, 1012); // in the middle of the snapshot too
    server.cut(1012);
    await until(list, (s) => live(s) && s.rows.length === 3);
    for (const { rows } of seen) assert.ok(rows.length === 2 ? rows[0].id === 'a' : rows.length === 3, `${code}: half a set was shown`);
    assert.equal(seen.at(-1).rows[0].n, 2);
    assert.equal(server.operations.at(-1).after, undefined, code);
    list.close();
  }
});

test('a snapshot that breaks off is begun again', async (t) => {
  for (const query of [changed, batch]) {
    const history = new History();
    history.write(...[...'abcdefg'].map((id) => ['INSERT', id, 1]));
    const server = await serve(t, history);
    server.cutAfter(2, 1012);
    const { list, seen } = open(t, { server, query });
    await until(list, (s) => s.status === 'reconnecting');
    history.write(['DELETE', 'a']);
    await until(list, live);
    assert.deepEqual([...new Set(seen.map((s) => `${s.synced} ${s.rows.length}`))], ['false 0', 'true 6']);
  }
});

test('a place that is gone again and again is asked for less and less often', async (t) => {
  const history = new History();
  history.write(['INSERT', 'a', 1]);
  const server = await serve(t, history);
  let left = 3;
  server.script = () => {
    if (left-- > 0) throw failure('CURSOR_EXPIRED');
  };
  const waits = [];
  const { setTimeout: later } = globalThis;
  t.mock.method(globalThis, 'setTimeout', (f, ms, ...rest) => {
    if (f.name === 'begin') waits.push(ms);
    return later(f, f.name === 'begin' ? 0 : ms, ...rest);
  });
  const { list, seen } = open(t, { server });
  await until(list, live);
  assert.deepEqual(waits, [400, 800]); // the first time at once
  seen.length = 0;
  history.expire();
  await until(list, () => seen.some((s) => s.status === 'syncing') && seen.at(-1).status === 'live');
  assert.equal(waits.length, 2, 'what had been overcome is counted still');
});
