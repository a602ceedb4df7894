import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { liveList } from '@notifyql/client';
import { batch, changed, connect, failure, History, live, open, serve, until } from './server.mjs';

const texts = (snapshot) => snapshot.rows.map(({ id, n }) => `${id}${n}`).join(' ');

function three() {
  const history = new History();
  history.write(['INSERT', 'a', 1], ['INSERT', 'b', 1], ['INSERT', 'c', 1]);
  return history;
}

test('a snapshot at once, then each change', async (t) => {
  const history = three();
  const { list, seen } = open(t, { server: await serve(t, history) });
  const first = await until(list, live);
  history.write(['UPDATE', 'b', 2]);
  await until(list, (s) => texts(s) === 'a1 b2 c1');
  history.write(['DELETE', 'a']);
  history.write(['INSERT', 'd', 1]);
  await until(list, (s) => texts(s) === 'b2 c1 d1');
  history.write(['TRUNCATE']);
  await until(list, (s) => s.rows.length === 0);

  assert.deepEqual(
    seen.map((s) => `${s.status} ${s.synced} ${texts(s)}`.trim()),
    ['syncing false', 'live true a1 b1 c1', 'live true a1 b2 c1', 'live true b2 c1', 'live true b2 c1 d1', 'live true'],
  );
  assert.equal(texts(first), 'a1 b1 c1', 'a snapshot has changed');
});

test('a snapshot is the same object until something changes', async (t) => {
  const history = three();
  const server = await serve(t, history);
  const { list, seen } = open(t, { server });
  const { rows } = await until(list, live);
  assert.equal(list.getSnapshot(), list.getSnapshot());
  const before = seen.length;
  server.cut(1012);
  const away = await until(list, (s) => s.status === 'reconnecting');
  assert.equal(away.rows, rows, 'other rows, though only the status is another');
  await until(list, live);
  assert.deepEqual(seen.slice(before).map((s) => s.status), ['reconnecting', 'syncing', 'live']);
  assert.equal(list.getServerSnapshot(), list.getServerSnapshot());
  assert.deepEqual(list.getServerSnapshot(), { rows: [], status: 'connecting', synced: false, error: undefined });
});

test('a message is one notification, however many changes are in it', async (t) => {
  const history = three();
  const { list, seen } = open(t, { server: await serve(t, history), query: batch });
  await until(list, live);
  assert.deepEqual(seen.map((s) => s.rows.length), [0, 3], 'syncing, then whole'); // the snapshot came in two messages
  seen.length = 0;
  history.write(['UPDATE', 'a', 2], ['UPDATE', 'b', 2], ['DELETE', 'c'], ['INSERT', 'd', 2]);
  await until(list, (s) => s.rows.length === 3 && texts(s) !== 'a1 b1 c1');
  assert.deepEqual(seen.map(texts), ['a2 b2 d2']);
});

test('the set of a table without rows is whole too', async (t) => {
  for (const query of [changed, batch]) {
    const { list } = open(t, { server: await serve(t), query });
    assert.deepEqual(await until(list, live), { rows: [], status: 'live', synced: true, error: undefined });
  }
});

test('order', async (t) => {
  const history = three();
  const server = await serve(t, history);
  const asCame = open(t, { server }).list;
  const sorted = open(t, { server, compare: (a, b) => b.n - a.n }).list;
  await Promise.all([until(asCame, live), until(sorted, live)]);
  for (const [change, came, order] of [
    [['INSERT', 'd', 2], 'a1 b1 c1 d2', 'd2 a1 b1 c1'],
    [['UPDATE', 'b', 3], 'a1 b3 c1 d2', 'b3 d2 a1 c1'],
    [['UPDATE', 'd', 1], 'a1 b3 c1 d1', 'b3 a1 c1 d1'], // equal ones: as they came
    [['DELETE', 'a'], 'b3 c1 d1', 'b3 c1 d1'],
    [['INSERT', 'a', 1], 'b3 c1 d1 a1', 'b3 c1 d1 a1'],
    [['UPDATE', 'e', 3, 'c'], 'b3 d1 a1 e3', 'b3 e3 d1 a1'], // another key: as one that comes
  ]) {
    history.write(change);
    await Promise.all([until(asCame, (s) => texts(s) === came), until(sorted, (s) => texts(s) === order)]);
  }
});

test('several lists over one client', async (t) => {
  const history = three();
  const server = await serve(t, history);
  const client = connect(server);
  const lists = [changed, batch, changed].map((query) => open(t, { client, query }).list);
  await Promise.all(lists.map((list) => until(list, live)));
  server.cut();
  history.write(['INSERT', 'd', 1]);
  await Promise.all(lists.map((list) => until(list, (s) => live(s) && s.rows.length === 4)));
  lists[0].close();
  const begun = server.operations.length;
  server.cut();
  history.write(['INSERT', 'e', 1]);
  await Promise.all(lists.slice(1).map((list) => until(list, (s) => live(s) && s.rows.length === 5)));
  assert.equal(server.operations.length, begun + 2, 'the closed list has begun again');
  assert.equal(lists[0].getSnapshot().rows.length, 4);
  assert.equal(lists[0].getSnapshot().status, 'connecting');
});

test('a list without listeners does nothing, and goes on from its cursor when it has one again', async (t) => {
  const history = three();
  const server = await serve(t, history);
  const client = connect(server);
  t.after(() => client.dispose());
  const list = liveList({ client, query: changed, strict: true });
  const other = open(t, { client }).list; // so that the socket stays
  await until(other, live);
  assert.equal(server.operations.length, 1);

  const first = list.subscribe(() => {});
  const second = list.subscribe(() => {});
  await until(list, live);
  first();
  first();
  history.write(['INSERT', 'd', 1]);
  await until(list, (s) => s.rows.length === 4);
  const completed = server.completed();
  second();
  await completed;
  history.write(['DELETE', 'a'], ['INSERT', 'e', 1]);
  await until(other, (s) => texts(s) === 'b1 c1 d1 e1');
  assert.equal(texts(list.getSnapshot()), 'a1 b1 c1 d1');
  await until(list, (s) => live(s) && texts(s) === 'b1 c1 d1 e1');
  assert.deepEqual(server.operations.slice(1), [{}, { after: 'a:4' }]);
});

test('a listener may close the list that calls it', async (t) => {
  for (const when of ['syncing', 'live', 'reconnecting']) {
    const server = await serve(t, three());
    const { list } = open(t, { server });
    const closed = new Promise((resolve) => {
      list.subscribe(() => {
        if (list.getSnapshot().status !== when) return;
        list.close();
        resolve();
      });
    });
    if (when === 'reconnecting') {
      await until(list, live);
      server.cut(1012);
    }
    await closed;
    assert.equal(list.getSnapshot().status, 'connecting');
    const begun = server.operations.length;
    await until(open(t, { server }).list, live);
    assert.equal(server.operations.length, begun + 1, 'the closed list has begun again');
  }
});

test('a listener that throws harms no other, nor the connection', async (t) => {
  const history = three();
  const { list } = open(t, { server: await serve(t, history) });
  await until(list, live);
  const thrown = [];
  const later = t.mock.method(globalThis, 'setTimeout', (f) => thrown.push(f));
  list.subscribe(() => { throw new Error('mine'); });
  history.write(['INSERT', 'd', 1]);
  await until(list, (s) => s.rows.length === 4);
  later.mock.restore();
  assert.throws(thrown[0], { message: 'mine' }, 'it is said all the same');
  assert.equal(list.getSnapshot().status, 'live');
});

test('the query is looked at', () => {
  const client = { subscribe() {}, on() {} };
  for (const [query, message] of [
    [changed.replaceAll('$after', '$afterwards'), /variable \$after\./],
    [changed.replace('initial: true, ', ''), /initial: true/],
    [changed.replace('initial: true', 'initial: $initial'), /initial: true/],
  ]) {
    assert.throws(() => liveList({ client, query }), message);
  }
});

test('variables are sent with each operation', async (t) => {
  const server = await serve(t, three());
  const { list } = open(t, { server, variables: { status: 'paid', limit: 9 } });
  await until(list, live);
  server.cut();
  await until(list, (s) => s.status === 'reconnecting');
  await until(list, live);
  assert.deepEqual(server.operations, [{ status: 'paid', limit: 9 }, { status: 'paid', limit: 9, after: 'a:3' }]);
});

test('an error stops the list, says why, and may be tried again', async (t) => {
  const history = three();
  const server = await serve(t, history);
  const { list } = open(t, { server });
  await until(list, live);
  server.script = () => { throw failure('LIMIT_EXCEEDED'); };
  server.cut(1012);
  const failed = await until(list, (s) => s.status === 'error');
  assert.equal(failed.error[0].extensions.code, 'LIMIT_EXCEEDED');
  assert.equal(failed.rows.length, 3, 'the rows are as they were');
  history.write(['INSERT', 'd', 1]);
  server.script = () => undefined;
  list.retry();
  assert.equal(list.getSnapshot().error, undefined);
  await until(list, (s) => live(s) && s.rows.length === 4);
  list.retry(); // does nothing to one that runs
  history.write(['INSERT', 'e', 1]);
  await until(list, (s) => s.rows.length === 5);
  assert.deepEqual(server.operations.map((o) => o.after), [undefined, 'a:3', 'a:3']);
});

test('what else ends a list', async (t) => {
  for (const [script, message] of [
    [() => [], /has ended the subscription/], // complete
    [() => [{ kind: 'SYNCED', key: null, new: null, cursor: null }], /cursor/],
    [() => [{ kind: 'INITIAL', key: null, new: { id: 'a', n: 1 }, cursor: null }], /key/],
  ]) {
    const server = await serve(t);
    server.script = script;
    const { error } = await until(open(t, { server }).list, (s) => s.status === 'error');
    assert.match(error.message, message);
  }
  const server = await serve(t);
  const invalid = open(t, { server, query: changed.replace('kind', 'kin') }).list;
  assert.match((await until(invalid, (s) => s.status === 'error')).error[0].message, /"kin"/);

  const refused = open(t, { server, client: connect(server, { shouldRetry: () => false }) }).list;
  await until(refused, live);
  server.cut(1012);
  assert.equal((await until(refused, (s) => s.status === 'error')).error.code, 1012);
});

test('errors beside a message are told, and the list goes on', async (t) => {
  const server = await serve(t);
  const row = (kind, id, at) => ({ kind, key: id, new: { id, n: 1 }, cursor: `a:${at}` });
  const error = (code) => ({ toJSON: () => ({ message: code, extensions: { code } }) });
  server.script = async function* () {
    yield { kind: 'SYNCED', key: null, new: null, cursor: 'a:0' };
    yield { data: null, errors: [error('UNSERIALIZABLE')] };
    yield { data: { itemsChanged: { ...row('INSERT', 'b', 2), new: null } }, errors: [error('NULL_IN_NON_NULL')] };
    yield row('INSERT', 'c', 3);
    await once(server.http, 'close');
  };
  const { list, seen } = open(t, { server });
  await until(list, (s) => s.rows.length === 1);
  assert.deepEqual(seen.map((s) => s.error?.[0].extensions.code), [undefined, undefined, 'UNSERIALIZABLE', 'NULL_IN_NON_NULL', 'NULL_IN_NON_NULL']);
  assert.equal(seen.at(-1).status, 'live');
});
