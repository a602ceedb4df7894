// A client of one library, driven by commands on stdin and telling events on stdout, each a line of JSON.
//
//   node client.mjs LIBRARY URL OPTIONS
//
// Commands: {do: "subscribe", id, query, variables}  {do: "complete", id}  {do: "dispose"}  {do: "terminate"}
// Events:   connecting connected closed{code, reason} next{id, payload} error{id, payload} complete{id} ping pong
import { createInterface } from 'node:readline';

const [library, url, options] = process.argv.slice(2);

function tell(event, id, payload) {
  process.stdout.write(JSON.stringify({ event, id, payload }) + '\n');
}

// What an error is depends on who made it: GraphQL errors, a close event, an Error.
function describe(err) {
  if (Array.isArray(err)) return err;
  if (err && Object.getPrototypeOf(err) === Object.prototype) return err;
  if (err && typeof err.code === 'number') return { code: err.code, reason: String(err.reason ?? '') };
  return { message: String(err?.message ?? err) };
}

const libraries = {
  async 'graphql-ws'(options) {
    const { createClient } = await import('graphql-ws');
    const { WebSocket } = await import('ws');
    const { retryMilliseconds, ...rest } = options;
    const client = createClient({
      url,
      webSocketImpl: WebSocket,
      onNonLazyError: (err) => tell('fatal', undefined, describe(err)),
      ...(retryMilliseconds && {
        retryWait: () => new Promise((resolve) => setTimeout(resolve, retryMilliseconds)),
      }),
      ...rest,
      on: {
        connected: (_socket, payload) => tell('connected', undefined, payload),
        closed: (e) => tell('closed', undefined, describe(e)),
        ping: (received, payload) => tell(received ? 'ping' : 'pinged', undefined, payload),
        pong: (received, payload) => tell(received ? 'pong' : 'ponged', undefined, payload),
      },
    });
    return {
      subscribe: (request, sink) => client.subscribe(request, sink),
      dispose: () => client.dispose(),
      terminate: () => client.terminate(),
    };
  },

  async 'subscriptions-transport-ws'(options) {
    const { default: lib } = await import('subscriptions-transport-ws');
    const { WebSocket } = await import('ws');
    const client = new lib.SubscriptionClient(url, options, WebSocket);
    client.onConnected(() => tell('connected'));
    client.onReconnected(() => tell('connected'));
    client.onDisconnected(() => tell('closed'));
    client.onError(() => {}); // a try to connect that failed: it tries again
    return {
      subscribe(request, sink) {
        const { unsubscribe } = client.request(request).subscribe(sink);
        return unsubscribe;
      },
      dispose: () => client.close(),
    };
  },

  async 'graphql-sse'(options) {
    const { createClient } = await import('graphql-sse');
    const { retryMilliseconds, ...rest } = options;
    const client = createClient({
      url,
      onNonLazyError: (err) => tell('fatal', undefined, describe(err)),
      ...(retryMilliseconds && {
        retry: () => new Promise((resolve) => setTimeout(resolve, retryMilliseconds)),
      }),
      ...rest,
      on: { connected: (reconnected) => tell('connected', undefined, reconnected || undefined) },
    });
    return { subscribe: (request, sink) => client.subscribe(request, sink), dispose: () => client.dispose() };
  },
};

const client = await libraries[library](JSON.parse(options));
const running = new Map();

for await (const line of createInterface({ input: process.stdin })) {
  const { do: command, id, ...request } = JSON.parse(line);
  switch (command) {
    case 'subscribe':
      running.set(
        id,
        client.subscribe(request, {
          next: (result) => tell('next', id, result),
          error: (err) => tell('error', id, describe(err)),
          complete: () => tell('complete', id),
        }),
      );
      break;
    case 'complete':
      running.get(id)();
      break;
    default:
      client[command]();
  }
}
process.exit(0);
