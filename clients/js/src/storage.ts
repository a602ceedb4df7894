import type { RowSet } from './set.js';

/** Where a list is kept over a reload of the page. */
export interface Keep {
  /** localStorage, sessionStorage, or what has these three of their methods. */
  in: Pick<Storage, 'getItem' | 'setItem' | 'removeItem'>;
  /** The item's name. Rows are kept as they are, so it should name the user too. */
  key: string;
  /** What would be longer, in UTF-16 units, is not kept. By default 1,000,000. */
  maxLength?: number;
}

/** How long a change may wait to be kept, in ms. What is kept is always whole; if it is old, more is sent after a reload. */
const delay = 1000;

/** Keeps rows and cursor, as one item, so that they are always of the same moment. */
export class Store<Row> {
  #keep: Keep;
  #of: string;
  #set: RowSet<Row>;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #tooMany = Infinity; // as many rows were too long

  /** What is kept belongs to one query with its variables, `of`; anything else is ignored. */
  constructor(keep: Keep, of: string, set: RowSet<Row>) {
    this.#keep = keep;
    this.#of = of;
    this.#set = set;
    try {
      const kept = JSON.parse(keep.in.getItem(keep.key)!);
      if (kept.of !== of) return;
      set.rows = new Map(kept.rows);
      set.cursor = kept.cursor;
    } catch {
      // nothing there, or nothing of ours, or the browser lets nobody look
    }
  }

  /** The set has changed. */
  changed(): void {
    this.#timer ??= setTimeout(() => this.flush(), delay);
  }

  /** Keeps now what has changed. */
  flush(): void {
    if (this.#timer === undefined) return;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const { rows, cursor } = this.#set;
    if (cursor === undefined || rows.size >= this.#tooMany) return;
    const { in: storage, key, maxLength = 1_000_000 } = this.#keep;
    try {
      const text = JSON.stringify({ of: this.#of, cursor, rows: [...rows] });
      if (text.length <= maxLength) return storage.setItem(key, text);
      this.#tooMany = rows.size;
      storage.removeItem(key);
    } catch {
      // it is full: what is there is older, and as whole
    }
  }
}
