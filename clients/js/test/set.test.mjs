import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RowSet } from '../dist/set.js';

const change = (kind, key, row = { n: 1 }) => ({ kind, key, new: row, cursor: 'x' });

function set(strict) {
  const rows = new RowSet(strict);
  rows.begin();
  rows.take(change('INITIAL', 'a'));
  rows.take(change('SYNCED', null, null));
  return rows;
}

test('strict: what does not follow is an error', () => {
  for (const [kind, key] of [['INSERT', 'a'], ['UPDATE', 'b'], ['DELETE', 'b'], ['INITIAL', 'a'], ['INITIAL', 'b']]) {
    assert.throws(() => set(true).take(change(kind, key)), new RegExp(`${kind} of ${key} does not follow`));
  }
  for (const kind of ['INITIAL', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) { // in the middle of a snapshot
    const rows = new RowSet(true);
    rows.begin();
    rows.take(change('INITIAL', 'a'));
    assert.throws(() => rows.take(change(kind, 'a')), new RegExp(`${kind} of a does not follow`));
  }
});

test('an UPDATE of the primary key moves the row', () => {
  const move = (oldKey, key, row = { n: 2 }) => ({ ...change('UPDATE', key, row), oldKey });
  for (const strict of [true, false]) {
    const rows = set(strict);
    rows.take(move('a', 'b'));
    assert.deepEqual([...rows.rows], [['b', { n: 2 }]]);
    rows.take({ changes: [move('b', 'b', { n: 3 }), change('INSERT', 'a'), move('b', 'c'), move('a', 'b')], synced: false, cursor: 'y' });
    assert.deepEqual([...rows.rows], [['c', { n: 2 }], ['b', { n: 2 }]]);
    rows.take({ ...change('DELETE', 'c', null), oldKey: 'c' });
    rows.take(move('b', 'd', null)); // beside an error
    assert.equal(rows.rows.size, 0);
  }
  for (const [from, to] of [['b', 'a'], ['b', 'c'], ['a', 'b']]) { // of no row, of no row, onto a row
    const rows = set(true);
    if (from === 'a') rows.take(change('INSERT', 'b'));
    assert.throws(() => rows.take(move(from, to)), new RegExp(`UPDATE of ${to} does not follow`));
  }
  const limited = set(false); // it was not told of the row
  limited.take(move('b', 'c'));
  assert.deepEqual([...limited.rows.keys()], ['a', 'c']);
});

test('otherwise it is taken for what it says', () => {
  const rows = set(false);
  for (let twice = 0; twice < 2; twice++) {
    for (const c of [change('INSERT', 'a', { n: 2 }), change('UPDATE', 'b'), change('DELETE', 'c')]) rows.take(c);
    assert.deepEqual([...rows.rows], [['a', { n: 2 }], ['b', { n: 1 }]]);
  }
});

test('set and cursor change together', () => {
  const rows = new RowSet(true);
  rows.begin();
  assert.deepEqual(rows.take({ changes: [change('INITIAL', 'a')], synced: false, cursor: null }), { changed: false, synced: false });
  assert.deepEqual([rows.rows.size, rows.cursor], [0, undefined]);
  assert.deepEqual(rows.take({ changes: [change('INITIAL', 'b')], synced: true, cursor: '1' }), { changed: true, synced: true });
  assert.deepEqual([rows.rows.size, rows.cursor], [2, '1']);
  assert.deepEqual(rows.take({ changes: [change('DELETE', 'b')], synced: false, cursor: '2' }), { changed: true, synced: false });
  assert.deepEqual([rows.rows.size, rows.cursor], [1, '2']);
  assert.deepEqual(rows.take({ changes: [], synced: true, cursor: '3' }), { changed: false, synced: true });
  assert.equal(rows.cursor, '3');
  assert.deepEqual(rows.take(change('SYNCED', null, null)), { changed: false, synced: true });
});
