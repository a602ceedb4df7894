/** One row's change, as a field like `ordersChanged` gives it. */
export interface Change<Row> {
  kind: 'INITIAL' | 'SYNCED' | 'INSERT' | 'UPDATE' | 'DELETE' | 'TRUNCATE';
  key: string | null;
  /** Of an UPDATE or a DELETE, the key until then. */
  oldKey?: string | null;
  new: Row | null;
  cursor?: string | null;
}

/** Several changes in one message, as a field like `ordersBatch` gives them. */
export interface Batch<Row> {
  changes: Change<Row>[];
  synced: boolean;
  cursor: string | null;
}

/** What a message did. */
export interface Effect {
  /** The rows are others now. */
  changed: boolean;
  /** All that there was when the message was sent has been received. */
  synced: boolean;
}

/**
 * Rows by key, and the place in the history at which they stood so. The two change together, a message at a time: whoever
 * continues from `cursor` with these rows misses nothing and gets nothing twice.
 */
export class RowSet<Row> {
  /** In the order of the snapshot, then of arrival. */
  rows = new Map<string, Row>();
  /** Undefined until a snapshot has been received to its end, and when the place is gone. */
  cursor: string | undefined;
  #strict: boolean;
  #snapshot: Map<string, Row> | undefined; // being received; it takes the place of rows when it is complete

  constructor(strict: boolean) {
    this.#strict = strict;
  }

  /** An operation begins: from the cursor, or without one with a snapshot. What came of a snapshot before is dropped. */
  begin(): void {
    this.#snapshot = this.cursor === undefined ? new Map() : undefined;
  }

  /** Takes a message. It throws if the message can't be taken; the set is then to be begun anew. */
  take(message: Change<Row> | Batch<Row>): Effect {
    const rows = this.#snapshot ?? this.rows;
    const changes = 'changes' in message ? message.changes : [message];
    let synced = 'synced' in message && message.synced;
    let changed = false;
    for (const change of changes) {
      if (change.kind === 'SYNCED') synced = true;
      else {
        this.#apply(rows, change);
        changed = rows === this.rows;
      }
    }
    if (synced && this.#snapshot) {
      this.rows = this.#snapshot;
      this.#snapshot = undefined;
      changed = true;
    }
    if (!this.#snapshot) {
      if (!message.cursor) throw new TypeError('A message without a cursor: the query must select it.');
      this.cursor = message.cursor;
    }
    return { changed, synced };
  }

  #apply(rows: Map<string, Row>, { kind, key, oldKey, new: row }: Change<Row>): void {
    this.#expect((kind === 'INITIAL') === (rows !== this.rows), kind, key);
    if (kind === 'TRUNCATE') {
      rows.clear();
      return;
    }
    if (typeof key !== 'string') throw new TypeError('A row without a key: the query must select it, and the table needs a primary key.');
    const before = oldKey ?? key;
    this.#expect(rows.has(before) === (kind === 'UPDATE' || kind === 'DELETE') && (before === key || !rows.has(key)), kind, key);
    if (kind === 'DELETE' || before !== key) rows.delete(before);
    if (kind !== 'DELETE' && row) rows.set(key, row); // it is null beside an error, which says why
  }

  #expect(ok: boolean, kind: string, key: string | null): void {
    if (this.#strict && !ok) throw new Error(`${kind} of ${key} does not follow from the rows before it.`);
  }
}
