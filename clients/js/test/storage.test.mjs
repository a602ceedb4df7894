import assert from 'node:assert/strict';
import { test } from 'node:test';
import { liveList } from '@notifyql/client';
import { batch, changed, connect, History, live, open, serve, until } from './server.mjs';

/** What the browser's storages are, and a wait for the next write. */
class Memory extends Map {
  #wake = [];
  getItem(key) {
    return this.get(key) ?? null;
  }
  setItem(key, text) {
    this.set(key, text);
    this.#wake.splice(0).forEach((wake) => wake(JSON.parse(text)));
  }
  removeItem(key) {
    this.delete(key);
    this.#wake.splice(0).forEach((wake) => wake());
  }
  written() {
    return new Promise((resolve) => this.#wake.push(resolve));
  }
}

/** What would be kept in a while is kept soon. */
function soon(t) {
  const { setTimeout: later } = globalThis;
  t.mock.method(globalThis, 'setTimeout', (f, ms, ...rest) => later(f, ms === 1000 ? 10 : ms, ...rest));
}

function table() {
  const history = new History();
  history.write(['INSERT', 'a', 1], ['INSERT', 'b', 1]);
  return history;
}

test('a reload goes on where the page was', async (t) => {
  soon(t);
  for (const query of [changed, batch]) {
    const history = table();
    const server = await serve(t, history);
    const storage = { in: new Memory(), key: 'items' };
    const before = open(t, { server, query, storage });
    await until(before.list, live);
    const kept = await storage.in.written();
    assert.equal(kept.cursor, 'a:2');
    history.write(['UPDATE', 'a', 2]); // kept too late, or never: the page is gone
    history.write(['DELETE', 'b']);
    await until(before.list, (s) => s.rows.length === 1);
    const text = storage.in.getItem('items');

    storage.in = new Memory([['items', text]]);
    const { list, seen } = open(t, { server, query, storage });
    const stored = list.getSnapshot();
    assert.deepEqual(stored, { rows: [{ id: 'a', n: 1 }, { id: 'b', n: 1 }], status: 'connecting', synced: true, error: undefined });
    const { rows } = await until(list, live);
    assert.deepEqual(rows, [{ id: 'a', n: 2 }]);
    assert.deepEqual(server.operations.at(-1), { after: 'a:2' });
    assert.ok(seen.every((s) => s.synced));
  }
});

test('what is closed is kept at once', async (t) => {
  const storage = { in: new Memory(), key: 'items' };
  const { list } = open(t, { server: await serve(t, table()), storage });
  await until(list, live);
  list.close();
  assert.equal(JSON.parse(storage.in.getItem('items')).rows.length, 2);
  storage.in.removeItem('items'); // as at the end of a user's session
  list.close();
  assert.equal(storage.in.size, 0);
});

test('what is not of this list, or not readable, is ignored', async (t) => {
  const server = await serve(t, table());
  const client = connect(server);
  t.after(() => client.dispose());
  const storage = { in: new Memory(), key: 'items' };
  const { list } = open(t, { server, storage, variables: { status: 'paid' } });
  await until(list, live);
  list.close();
  const text = storage.in.getItem('items');
  const rows = (options) => liveList({ client, query: changed, variables: { status: 'paid' }, storage, ...options }).getSnapshot().rows.length;
  assert.equal(rows({}), 2);
  assert.equal(rows({ variables: { status: 'open' } }), 0);
  assert.equal(rows({ variables: undefined }), 0);
  assert.equal(rows({ query: batch }), 0);
  assert.equal(rows({ storage: { ...storage, key: 'other' } }), 0);
  for (const bad of ['', '{', 'null', '1', '[]', text.slice(0, -3), text.replace('"of":"[1', '"of":"[0'), text.replace('"rows":', '"rows":1,"lines":')]) {
    storage.in.setItem('items', bad);
    assert.equal(rows({}), 0, bad);
  }
  storage.in.getItem = () => { throw new DOMException('denied', 'SecurityError'); };
  assert.equal(rows({}), 0);
});

test('a list that gets too long is not kept, and the old one is taken away', async (t) => {
  soon(t);
  const history = table();
  const server = await serve(t, history);
  const storage = { in: new Memory(), key: 'items', maxLength: 500 };
  const { list } = open(t, { server, storage });
  await until(list, live);
  assert.equal((await storage.in.written()).rows.length, 2);
  history.write(...Array.from({ length: 30 }, (_, i) => ['INSERT', `row ${i}`, i]));
  while (await storage.in.written()); // undefined: it was removed
  assert.equal(storage.in.size, 0);
  const looked = t.mock.method(storage.in, 'removeItem');
  history.write(['INSERT', 'c', 1]);
  await until(list, (s) => s.rows.length === 33);
  list.close();
  assert.equal(looked.mock.callCount(), 0, 'a list that is longer still was written out to be measured');
  list.subscribe(() => {});
  history.write(['DELETE', 'c'], ...Array.from({ length: 30 }, (_, i) => ['DELETE', `row ${i}`]));
  let kept;
  do kept = await storage.in.written(); while (kept?.rows.length !== 2);
});

test('a storage that is full keeps the list of before', async (t) => {
  soon(t);
  const history = table();
  const storage = { in: new Memory(), key: 'items' };
  const { list } = open(t, { server: await serve(t, history), storage });
  await until(list, live);
  await storage.in.written();
  storage.in.setItem = () => { throw new DOMException('full', 'QuotaExceededError'); };
  history.write(['INSERT', 'c', 1]);
  await until(list, (s) => s.rows.length === 3);
  list.close();
  const kept = JSON.parse(storage.in.getItem('items'));
  assert.deepEqual([kept.rows.length, kept.cursor], [2, 'a:2']);
});

test('a stored place that is gone: the stored rows stay until the new ones are whole', async (t) => {
  const history = table();
  const server = await serve(t, history);
  const storage = { in: new Memory(), key: 'items' };
  const first = open(t, { server, storage }).list;
  await until(first, live);
  first.close();
  history.expire();
  history.write(['DELETE', 'a'], ['DELETE', 'b'], ['INSERT', 'c', 1]);
  const { list, seen } = open(t, { server, storage });
  await until(list, (s) => live(s) && s.rows[0].id === 'c');
  assert.deepEqual([...new Set(seen.map((s) => s.rows.length))], [2, 1]);
});

test('a list that stopped in the middle of a message is not kept', async (t) => {
  const server = await serve(t);
  const row = (kind) => ({ kind, key: 'a', new: { id: 'a', n: 1 } });
  server.script = () => [
    { changes: [row('INITIAL')], synced: true, cursor: 'a:0' },
    { changes: [row('UPDATE'), row('INSERT')], synced: false, cursor: 'a:2' },
  ];
  const storage = { in: new Memory(), key: 'items' };
  const { list } = open(t, { server, query: batch, storage });
  await until(list, (s) => s.status === 'error');
  list.close();
  assert.equal(storage.in.size, 0);
});
