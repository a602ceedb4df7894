import type { Client } from 'graphql-ws';
import { type Batch, type Change, RowSet } from './set.js';
import { type Keep, Store } from './storage.js';

export type { Keep };

export interface Options<Row> {
  /** A client of graphql-ws. Lists may share it. To outlive a server that is away it wants `retryAttempts: Infinity, shouldRetry: () => true`. */
  client: Pick<Client, 'subscribe' | 'on'>;
  /**
   * A subscription to one table's changes, a row or a batch a message, with the arguments `initial: true, after: $after`. It
   * declares the variable `$after: Cursor`, which the list sets, and selects `kind key new { … } cursor`, of a batch
   * `changes { kind key new { … } } synced cursor`; where primary keys are updated, `oldKey` beside `key`.
   */
  query: string;
  /** The query's other variables. */
  variables?: Record<string, unknown>;
  /** The order of the rows; equal ones stay in the order in which they came. Without it that is the order of all. */
  compare?: (a: Row, b: Row) => number;
  /** Where to keep the list over a reload. */
  storage?: Keep;
  /** A change that does not follow from the rows before it, such as the INSERT of a row that is there, is an error. For tests. */
  strict?: boolean;
}

/** `syncing`: connected, and behind by what is still being sent. `live`: no more than on its way. */
export type Status = 'connecting' | 'syncing' | 'live' | 'reconnecting' | 'error';

/** A list at one moment. It is never changed. */
export interface Snapshot<Row> {
  readonly rows: readonly Row[];
  readonly status: Status;
  /** The rows are whole: all of one moment, if perhaps, as the status says, of one that is past. */
  readonly synced: boolean;
  /** With status `error` why the list has stopped; otherwise the errors beside a message, whose row is missing or has gaps. */
  readonly error: unknown;
}

/** Its functions need no `this`: `useSyncExternalStore(list.subscribe, list.getSnapshot, list.getServerSnapshot)`. */
export interface LiveList<Row> {
  /** Calls the listener after each change. The list runs while it has listeners, and goes on from its cursor when it gets one again. */
  subscribe(listener: () => void): () => void;
  /** The same object until something has changed. */
  getSnapshot(): Snapshot<Row>;
  /** An empty list. */
  getServerSnapshot(): Snapshot<Row>;
  /** Begins again, from the cursor, after an error. */
  retry(): void;
  /** Stops the list and forgets its listeners. */
  close(): void;
}

type Message<Row> = Record<string, Change<Row> | Batch<Row>>; // its one field

const empty: Snapshot<never> = Object.freeze({ rows: Object.freeze([]), status: 'connecting', synced: false, error: undefined });

/** Errors after which the list begins anew: its place is gone, or the table is another. */
const anew = new Set(['CURSOR_EXPIRED', 'CURSOR_INVALID', 'OVERFLOW', 'INITIAL_INTERRUPTED', 'SCHEMA_CHANGED']);

/** A list of the rows that a subscription sees. Nothing happens before it has a listener. */
export function liveList<Row>(options: Options<Row>): LiveList<Row> {
  const { client, query, variables, compare } = options;
  if (!/\$after\b/.test(query)) throw new TypeError('The query must have a variable $after.');
  if (!/\binitial\s*:\s*true\b/.test(query)) throw new TypeError('The query must say initial: true.');
  const set = new RowSet<Row>(options.strict ?? false);
  const store = options.storage && new Store(options.storage, JSON.stringify([1, query, variables]), set);
  const listeners = new Set<() => void>();
  let status: Status = 'connecting';
  let synced = set.cursor !== undefined;
  let error: unknown;
  let rows: readonly Row[] | undefined; // as in the snapshot, until the set changes
  let snapshot: Snapshot<Row> | undefined; // until anything changes
  let running: (() => void)[] | undefined; // what to undo to stop
  let operation = 0; // counts them: what comes of earlier ones is ignored
  let unsubscribe: (() => void) | undefined;
  let failures = 0; // since it was last synced
  let timer: ReturnType<typeof setTimeout> | undefined;

  function update(nextStatus: Status, nextError: unknown, changed: boolean): void {
    if (!changed && nextStatus === status && nextError === error) return;
    status = nextStatus;
    error = nextError;
    if (changed) rows = undefined;
    snapshot = undefined;
    for (const listener of [...listeners]) {
      try {
        listener();
      } catch (err) {
        setTimeout(() => { throw err; }); // graphql-ws would take it for the server's and close the socket
      }
    }
  }

  // Each connection gets an operation of its own: graphql-ws would repeat the old one with the cursor of long ago, and a
  // socket that it has given up may still say something.
  function begin(): void {
    const mine = ++operation;
    const heard = <T>(f: (x: T) => void) => (x: T) => { if (mine === operation) f(x); };
    clearTimeout(timer);
    set.begin();
    const before = unsubscribe;
    unsubscribe = client.subscribe<Message<Row>>(
      { query, variables: { ...variables, after: set.cursor } },
      { next: heard(next), error: heard(ended), complete: heard<void>(() => fail(new Error('The server has ended the subscription.'))) },
    );
    before?.();
  }

  function next({ data, errors }: { data?: Message<Row> | null | undefined; errors?: unknown }): void {
    const message = data && Object.values(data)[0];
    if (!message) return update(status, errors, false);
    try {
      const effect = set.take(message);
      store?.changed();
      if (effect.synced) {
        failures = 0;
        synced = true;
      }
      update(effect.synced || status === 'live' ? 'live' : 'syncing', errors ?? error, effect.changed);
    } catch (err) {
      set.cursor = undefined;
      fail(err);
    }
  }

  function ended(err: unknown): void {
    if (!Array.isArray(err) || !err.some((e) => anew.has(e.extensions?.code))) return fail(err);
    set.cursor = undefined;
    unsubscribe = undefined;
    if (failures++ === 0) begin();
    else timer = setTimeout(begin, Math.min(2 ** failures * 100, 30_000));
    update('syncing', undefined, false);
  }

  function fail(err: unknown): void {
    stop();
    update('error', err, false);
  }

  function start(): void {
    running = [
      client.on('closed', () => update('reconnecting', error, false)),
      client.on('connected', () => {
        begin();
        update('syncing', error, false);
      }),
    ];
    begin();
    update('connecting', undefined, false);
  }

  function stop(): void {
    operation++;
    clearTimeout(timer);
    running?.forEach((undo) => undo());
    running = undefined;
    unsubscribe?.();
    unsubscribe = undefined;
    status = 'connecting';
    snapshot = undefined;
    store?.flush();
  }

  function close(): void {
    listeners.clear();
    stop();
  }

  return {
    subscribe(listener) {
      const own = () => listener();
      listeners.add(own);
      if (listeners.size === 1) start();
      return () => {
        if (listeners.delete(own) && listeners.size === 0) stop();
      };
    },
    getSnapshot() {
      if (!rows) {
        const now = [...set.rows.values()];
        rows = compare ? now.sort(compare) : now;
      }
      return (snapshot ??= { rows, status, synced, error });
    },
    getServerSnapshot: () => empty,
    retry() {
      if (status === 'error' && listeners.size > 0) start();
    },
    close,
  };
}
