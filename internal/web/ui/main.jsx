// The page: GraphiQL whose every operation, introspection included, goes over one graphql-ws connection to the address
// the page came from; and a field for the payload of connection_init, which says who one is.
import { useEffect, useMemo, useState } from 'react';
import { createRoot } from 'react-dom/client';
import { GraphiQL } from 'graphiql';
import { createClient } from 'graphql-ws';
import 'graphiql/style.css';
import './page.css';

const options = JSON.parse(document.getElementById('options').textContent);
const address = new URL(location.href);
const socketAddress = Object.assign(new URL(address), { search: '', hash: '' });
socketAddress.protocol = address.protocol === 'https:' ? 'wss:' : 'ws:';

// Storage can be forbidden; then nothing is remembered.
function remembered(key, fallback) {
  try {
    return localStorage.getItem(key) ?? fallback;
  } catch {
    return fallback;
  }
}

function remember(key, value) {
  try {
    localStorage.setItem(key, value);
  } catch {}
}

function parsePayload(text) {
  if (text.trim() === '') return {};
  const value = JSON.parse(text);
  if (value === null || typeof value !== 'object' || Array.isArray(value)) throw new Error('not an object');
  return value;
}

// An execution over the socket, as GraphiQL wants it: an async iterable; closes are told in words.
function fetcherOf(client) {
  return (request) => {
    const results = client.iterate(request);
    return {
      [Symbol.asyncIterator]() {
        return this;
      },
      async next() {
        try {
          return await results.next();
        } catch (err) {
          throw explain(err);
        }
      },
      return: () => results.return(),
    };
  };
}

function explain(err) {
  if (Array.isArray(err)) return { errors: err };
  if (err && typeof err.code === 'number') {
    return new Error(`The server closed the connection: ${err.code} ${err.reason || ''}`.trim());
  }
  return err instanceof Error ? err : new Error('The connection failed. Is the server running?');
}

function Page() {
  const [text, setText] = useState(() => address.searchParams.get('payload') ?? remembered('notifyql:payload', options.payload));
  const [applied, setApplied] = useState(text);
  const [status, setStatus] = useState('not connected');

  let problem = '';
  try {
    parsePayload(text);
  } catch (err) {
    problem = `Not a JSON object: ${err.message}`;
  }

  const client = useMemo(() => {
    let payload = {};
    try {
      payload = parsePayload(applied);
    } catch {}
    return createClient({
      url: socketAddress.href,
      connectionParams: payload,
      lazyCloseTimeout: 60_000,
      retryAttempts: Infinity,
      // The server may be restarting: soon, and then less often.
      retryWait: (tries) => new Promise((done) => setTimeout(done, Math.min(250 * 2 ** tries, 5000) * (0.5 + Math.random()))),
      shouldRetry: (err) => err?.code !== 4403,
      on: {
        connecting: () => setStatus('connecting'),
        connected: () => setStatus('connected'),
        closed: (e) => setStatus(e?.code === 1000 ? 'not connected' : `closed: ${e?.code} ${e?.reason ?? ''}`),
      },
    });
  }, [applied]);
  useEffect(() => () => void client.dispose(), [client]);
  const fetcher = useMemo(() => fetcherOf(client), [client]);

  function apply(event) {
    event.preventDefault();
    if (problem) return;
    remember('notifyql:payload', text);
    setApplied(text);
  }

  return (
    <>
      <form className="connection" onSubmit={apply}>
        <label htmlFor="payload">connection_init payload</label>
        <input
          id="payload"
          value={text}
          onChange={(e) => setText(e.target.value)}
          spellCheck={false}
          autoComplete="off"
          aria-invalid={problem !== ''}
          title={problem || 'Who you are, as the server is told when the connection opens'}
        />
        <button type="submit" disabled={problem !== '' || text === applied}>
          Reconnect
        </button>
        <output data-status={status.split(':')[0]}>{problem || status}</output>
      </form>
      <main>
        <GraphiQL
          fetcher={fetcher}
          defaultQuery={options.query}
          query={address.searchParams.get('query') ?? undefined}
          isHeadersEditorEnabled={false}
        />
      </main>
    </>
  );
}

createRoot(document.getElementById('root')).render(<Page />);
