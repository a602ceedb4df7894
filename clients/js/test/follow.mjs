// A list in Node: node follow.mjs SETTINGS. On a line of input, an id, it tells its rows once it has that one.
//
//   {"url", "params", "query", "variables"}
import { createInterface } from 'node:readline';
import { createClient } from 'graphql-ws';
import { WebSocket } from 'ws';
import { told } from './told.mjs';

const { url, params, ...options } = JSON.parse(process.argv[2]);
const client = createClient({
  url,
  webSocketImpl: WebSocket,
  connectionParams: params,
  retryAttempts: Infinity,
  shouldRetry: () => true,
  retryWait: () => new Promise((resolve) => setTimeout(resolve, 20)),
});
const want = told(client, options, (line) => process.stdout.write(line + '\n'));
for await (const line of createInterface({ input: process.stdin })) want(line);
process.exit(0);
