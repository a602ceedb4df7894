// A graphql-ws server over a history that a test writes, as notifyql's would tell it, with the means to break it anywhere.
import { once } from 'node:events';
import { createServer } from 'node:http';
import { liveList } from '@notifyql/client';
import { buildSchema, getOperationAST, parse, validate } from 'graphql';
import { createClient, makeServer } from 'graphql-ws';
import { WebSocket, WebSocketServer } from 'ws';

const schema = buildSchema(`
  scalar Cursor
  type Query { none: Int }
  type Subscription {
    itemsChanged(initial: Boolean, after: Cursor): Change!
    itemsBatch(initial: Boolean, after: Cursor): Batch!
  }
  type Item { id: ID! n: Int! }
  type Change { kind: String! key: ID oldKey: ID new: Item cursor: Cursor }
  type Batch { changes: [Change!]! synced: Boolean! cursor: Cursor }
`);

export const changed = `subscription ($after: Cursor) {
  itemsChanged(initial: true, after: $after) { kind key oldKey new { id n } cursor }
}`;
export const batch = `subscription ($after: Cursor) {
  itemsBatch(initial: true, after: $after) { changes { kind key oldKey new { id n } } synced cursor }
}`;

/** The changes of a table, and what it has become. A cursor is a history's name and how many changes came before. */
export class History {
  name = 'a';
  log = [];
  oldest = 0; // places before it are gone
  rows = new Map();
  #wake = () => {};
  #woken = new Promise((resolve) => (this.#wake = resolve));

  /** A transaction: [kind, id, n], …; of an UPDATE of the id, [kind, id, n, the id before]. */
  write(...changes) {
    for (const [kind, id, n, before = id] of changes) {
      const row = kind === 'DELETE' || kind === 'TRUNCATE' ? null : { id, n };
      const oldKey = kind === 'UPDATE' || kind === 'DELETE' ? before : null;
      if (kind === 'TRUNCATE') this.rows.clear();
      if (!row || before !== id) this.rows.delete(before);
      if (row) this.rows.set(id, row);
      this.log.push({ kind, key: id ?? null, oldKey, new: row, transaction: changes });
    }
    this.wake();
  }

  wake() {
    this.#wake();
    this.#woken = new Promise((resolve) => (this.#wake = resolve));
  }

  grown() {
    return this.#woken;
  }

  /** All places until now are gone; live subscriptions end. */
  expire() {
    this.oldest = this.log.length + 1;
    this.log.push({ kind: 'GONE' });
    this.wake();
  }

  cursor(at) {
    return `${this.name}:${at}`;
  }

  place(cursor) {
    const [name, at] = cursor.split(':');
    if (name !== this.name) throw failure('CURSOR_INVALID');
    if (Number(at) < this.oldest) throw failure('CURSOR_EXPIRED');
    return Number(at);
  }
}

export function failure(code) {
  return Object.assign(new Error(code), { extensions: { code } });
}

export class Server {
  /** The operations that were begun: their variables. */
  operations = [];
  /** What is sent instead of the history: f(variables) gives messages, or undefined for the history. */
  script = () => undefined;
  #history;
  #sockets = new Set();
  #completed = [];
  #cut;

  constructor(history = new History()) {
    this.#history = history;
  }

  async listen(port = 0) {
    this.http = createServer();
    const sockets = new WebSocketServer({ server: this.http, handleProtocols: (offered) => [...offered][0] });
    const protocol = makeServer({
      onSubscribe: (_, id, payload) => {
        const document = parse(payload.query);
        const errors = validate(schema, document);
        if (errors.length > 0) return errors;
        this.operations.push(payload.variables);
        return { schema, document, variableValues: payload.variables };
      },
      subscribe: ({ document, variableValues }) => {
        const field = getOperationAST(document).selectionSet.selections[0].name.value;
        return this.#results(field, variableValues);
      },
      onNext: ({ extra }) => this.#count(extra),
    });
    sockets.on('connection', (socket) => {
      this.#sockets.add(socket);
      const closed = protocol.opened(
        {
          protocol: socket.protocol,
          send: (data) => new Promise((sent) => socket.send(data, sent)),
          close: (code, reason) => socket.close(code, reason),
          onMessage: (cb) =>
            socket.on('message', (data) => {
              if (JSON.parse(data).type === 'complete') this.#completed.splice(0).forEach((tell) => tell());
              cb(String(data)).catch((err) => socket.close(4500, err.message));
            }),
        },
        socket,
      );
      socket.on('close', (code, reason) => {
        this.#sockets.delete(socket);
        closed(code, String(reason));
      });
    });
    this.http.listen(port, '127.0.0.1');
    await once(this.http, 'listening');
    this.port = this.http.address().port;
    return this;
  }

  async close(code = 1012) {
    this.cut(code);
    this.http.close();
    this.http.closeAllConnections();
    await once(this.http, 'close');
  }

  /** Ends the connections: with a code, or as if a cable was cut. */
  cut(code) {
    for (const socket of this.#sockets) code ? socket.close(code) : socket.terminate();
  }

  /** The same after n more messages. */
  cutAfter(n, code) {
    this.#cut = { n, code };
  }

  /** The next operation that a client completes. */
  completed() {
    return new Promise((resolve) => this.#completed.push(resolve));
  }

  #count(socket) {
    if (!this.#cut || this.#cut.n-- > 0) return;
    const { code } = this.#cut;
    this.#cut = undefined;
    code ? socket.close(code) : socket.terminate();
  }

  async *#results(field, variables) {
    const messages = this.script(variables) ?? (field === 'itemsBatch' ? this.#batches(variables) : this.#changes(variables));
    for await (const message of messages) yield message.data !== undefined ? message : { data: { [field]: message } };
  }

  async *#changes({ after }) {
    const none = { key: null, oldKey: null, new: null };
    const h = this.#history;
    let at = after === undefined ? h.log.length : h.place(after);
    if (after === undefined) for (const row of [...h.rows.values()]) yield { kind: 'INITIAL', key: row.id, oldKey: null, new: row, cursor: null };
    else while (at < h.log.length) yield this.#change(at++);
    yield { kind: 'SYNCED', ...none, cursor: h.cursor(at) };
    for (;;) {
      while (at < h.log.length) yield this.#change(at++);
      await h.grown();
    }
  }

  #change(at) {
    const { transaction, ...change } = this.#history.log[at];
    if (change.kind === 'GONE') throw failure('CURSOR_EXPIRED');
    return { ...change, cursor: this.#history.cursor(at + 1) };
  }

  async *#batches({ after }) {
    const h = this.#history;
    let at = after === undefined ? h.log.length : h.place(after);
    const rows = [...h.rows.values()];
    if (after === undefined) {
      for (; rows.length > 2; rows.splice(0, 2)) {
        yield { changes: rows.slice(0, 2).map((row) => ({ kind: 'INITIAL', key: row.id, oldKey: null, new: row })), synced: false, cursor: null };
      }
      yield { changes: rows.map((row) => ({ kind: 'INITIAL', key: row.id, oldKey: null, new: row })), synced: true, cursor: h.cursor(at) };
    }
    for (let behind = after !== undefined; ; ) {
      while (at < h.log.length) {
        const changes = [];
        for (const { transaction } = h.log[at]; at < h.log.length && h.log[at].transaction === transaction; at++) {
          const { cursor, ...change } = this.#change(at);
          changes.push(change);
        }
        behind &&= at < h.log.length;
        yield { changes, synced: !behind, cursor: h.cursor(at) };
      }
      if (behind) yield { changes: [], synced: true, cursor: h.cursor(at) };
      behind = false;
      await h.grown();
    }
  }
}

/** A client of graphql-ws as the documentation has it, but quicker to come back. */
export function connect(server, options = {}) {
  return createClient({
    url: `ws://127.0.0.1:${server.port}`,
    webSocketImpl: WebSocket,
    retryAttempts: Infinity,
    shouldRetry: () => true,
    retryWait: () => new Promise((resolve) => setTimeout(resolve, 5)),
    ...options,
  });
}

/** Waits until the list is as wanted, and returns its snapshot. */
export function until(list, wanted) {
  let stop;
  return new Promise((resolve, reject) => {
    const look = () => {
      const snapshot = list.getSnapshot();
      if (wanted(snapshot)) resolve(snapshot);
      else if (snapshot.status === 'error') reject(snapshot.error);
    };
    stop = list.subscribe(look);
    look();
  }).finally(() => stop());
}

export const live = ({ status }) => status === 'live';

/** A strict list that runs until the test ends, and every snapshot of it. */
export function open(t, { server, client = connect(server), ...options }) {
  const list = liveList({ client, query: changed, strict: true, ...options });
  const seen = [];
  list.subscribe(() => seen.push(list.getSnapshot()));
  t.after(() => {
    list.close();
    client.dispose().catch(() => {}); // it was about to connect
  });
  return { list, seen, client };
}

/** A server that ends with the test. */
export async function serve(t, history = new History(), port) {
  const server = await new Server(history).listen(port);
  t.after(() => server.http.listening && server.close());
  return server;
}
