// What the types allow, and what they don't; it is compiled, not run.
import { type LiveList, liveList, type Snapshot } from '@notifyql/client';
import { createClient } from 'graphql-ws';

interface Order {
  id: string;
  amount: string;
}

const client = createClient({ url: 'ws://localhost/graphql', retryAttempts: Infinity, shouldRetry: () => true });

const list = liveList<Order>({
  client,
  query: '…',
  variables: { status: 'paid' },
  compare: (a, b) => Number(a.amount) - Number(b.amount),
  storage: { in: localStorage, key: 'orders of 7' },
});

const amounts: string[] = list.getSnapshot().rows.map((row) => row.amount);
const stop: () => void = list.subscribe(() => {});

// React's, as its types have it.
declare function useSyncExternalStore<S>(subscribe: (changed: () => void) => () => void, get: () => S, server?: () => S): S;
const snapshot: Snapshot<Order> = useSyncExternalStore(list.subscribe, list.getSnapshot, list.getServerSnapshot);

// @ts-expect-error: a snapshot is not changed
snapshot.rows.push({ id: '1', amount: '2' });
// @ts-expect-error: nor are its fields
snapshot.status = 'live';
// @ts-expect-error: no such status
const never = snapshot.status === 'dead';
// @ts-expect-error: the query is needed
liveList({ client });
// @ts-expect-error: rows are orders
const other: LiveList<{ name: string }> = list;

export { amounts, never, other, stop };
