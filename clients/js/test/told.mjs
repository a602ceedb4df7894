// A strict list that tells what happens to it, each time as a line of JSON, for a test of the server in another process.
import { liveList } from '@notifyql/client';

/** Runs the list. The function that it returns has it tell its rows, once it has the row with an id and is live. */
export function told(client, options, write) {
  const say = (event) => write(JSON.stringify(event));
  const list = liveList({
    ...options,
    client: {
      on: client.on,
      subscribe(request, sink) {
        say({ type: 'begun', after: request.variables.after });
        return client.subscribe(request, sink);
      },
    },
    strict: true,
  });
  say({ type: 'made', rows: list.getSnapshot().rows.length });

  let wanted;
  function look() {
    const { rows, status, error } = list.getSnapshot();
    say({ type: 'changed', status, rows: rows.length, error: error && (error.message ?? error) });
    if (status !== 'live' || !rows.some(({ id }) => String(id) === wanted)) return;
    wanted = undefined;
    say({ type: 'rows', list: rows });
  }
  list.subscribe(look);
  return (id) => {
    wanted = id;
    look();
  };
}
