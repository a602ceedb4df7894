// A real graphql-ws client, driven by a test: the settings are the first argument, as JSON; what happens is written as
// one JSON object a line. It retries for ever, as an app would.
//
//   {"url", "params", "subscriptions": [{"query", "variables"}]}
import { createClient } from 'graphql-ws';
import WebSocket from 'ws';

const settings = JSON.parse(process.argv[2]);
const say = (event) => process.stdout.write(JSON.stringify(event) + '\n');

const client = createClient({
  url: settings.url,
  webSocketImpl: WebSocket,
  connectionParams: settings.params,
  retryAttempts: Infinity,
  shouldRetry: () => true,
  retryWait: () => new Promise((done) => setTimeout(done, 50)),
  on: {
    connected: () => say({ type: 'connected' }),
    closed: (event) => say({ type: 'closed', code: event.code, reason: event.reason }),
  },
});

settings.subscriptions.forEach((request, index) => {
  client.subscribe(request, {
    next: (payload) => say({ type: 'next', index, payload }),
    error: (error) => say({ type: 'error', index, error: error.message ?? error }),
    complete: () => say({ type: 'complete', index }),
  });
});

process.stdin.resume().on('end', () => client.dispose());
