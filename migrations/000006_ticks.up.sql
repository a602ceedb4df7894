-- Ticks: places in the history that the database keeps. A tick's row is durable when its commit returns, and the write-ahead log
-- is lost from its end only: a tick that is there vouches for all that its snapshot sees.

create table notifyql.tick (
  id       bigint      not null primary key generated always as identity,
  bits     bigint      not null  -- which tell it from a tick of another history with the same id
    default ('x' || right(replace(gen_random_uuid()::text, '-', ''), 16))::bit(64)::bigint,
  snapshot pg_snapshot not null,
  at       timestamptz not null default clock_timestamp()
);

-- origin is where the log was read first, and where it was written therefore: its xids mean nothing in another cluster or
-- database, into which it can get by a dump or as a template.
create table notifyql.origin (
  system   bigint  not null,
  database oid     not null,
  single   boolean not null primary key default true check (single)
);
create function notifyql.here(out system bigint, out database oid) language sql stable
as $$ select c.system_identifier, d.oid from pg_control_system() c, pg_database d where d.datname = current_database() $$;

-- tick makes a tick if the newest one has an id of at most after, or whenever after is null. It returns the newest one's id.
-- One at a time, so that ids grow as snapshots do: behind the lock a statement's snapshot is taken. Its transaction logs
-- nothing, so that it does not matter that the snapshot leaves it out.
create function notifyql.tick(after bigint default null) returns bigint
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '2s'
as $$
declare
  newest bigint;
begin
  if current_setting('transaction_isolation') <> 'read committed' or pg_current_xact_id_if_assigned() is not null then
    raise exception 'tick: not in a transaction that has done something else, and only in one that is READ COMMITTED'
      using errcode = 'active_sql_transaction', hint = 'Call it in a transaction of its own.';
  end if;
  perform from notifyql.origin for no key update;
  select max(t.id) into newest from notifyql.tick t;
  if newest > after then
    return newest;
  end if;
  perform set_config('synchronous_commit', 'on', true);
  insert into notifyql.tick (snapshot) select pg_current_snapshot() returning id into newest;
  return newest;
end
$$;

-- life is emptied by crash recovery and by promotion, since it is unlogged: so a row that is still there tells that neither has
-- happened.
create unlogged table notifyql.life (
  bits   bigint  not null default ('x' || right(replace(gen_random_uuid()::text, '-', ''), 16))::bit(64)::bigint,
  single boolean not null primary key default true check (single)
);

create function notifyql.at_origin() returns boolean language sql volatile
as $$ select exists (select from notifyql.origin o, notifyql.here() h where o.system = h.system and o.database = h.database) $$;

-- era tells one life of the server from the next: within one, no commit that was seen is ever undone. It is null after a crash
-- until enter was called.
create function notifyql.era() returns bigint
language sql stable
security definer
set search_path = pg_catalog, pg_temp
as $$ select hashint8extended(l.bits, (date_part('epoch', pg_postmaster_start_time()) * 1000000)::bigint) from notifyql.life l $$;

-- enter begins what must be there before a node reads the history, and returns the era.
create function notifyql.enter() returns bigint
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if not notifyql.at_origin() then
    lock table notifyql.origin in share row exclusive mode; -- of two nodes that come at once, one finds out
    if not notifyql.at_origin() then
      if exists (select from notifyql.origin) or exists (select from notifyql.change c where c.xid >= pg_snapshot_xmax(pg_current_snapshot())) then
        perform notifyql.forget_history(true);
      end if;
      insert into notifyql.origin (system, database) select h.system, h.database from notifyql.here() h
        on conflict (single) do update set system = excluded.system, database = excluded.database;
    end if;
  end if;
  insert into notifyql.life default values on conflict do nothing;
  return notifyql.era();
end
$$;

-- forget_history empties the log. strange: its xids are of another place.
create function notifyql.forget_history(strange boolean) returns void
language plpgsql
set lock_timeout = '2s'
as $$
declare
  last xid8 := '0';
begin
  perform from notifyql.origin for no key update;
  lock table notifyql.change in access exclusive mode;
  if not strange then
    select coalesce((select c.xid from notifyql.change c order by c.xid desc, c.seq desc limit 1), '0') into last;
  end if;
  truncate notifyql.change;
  delete from notifyql.tick;
  delete from notifyql.torn;
  insert into notifyql.tick (snapshot) select pg_current_snapshot();
  update notifyql.ring r set newest = null, tries = 0, tried = null;
  update notifyql.retention r set dropped = case when strange then '0' else greatest(r.dropped, last) end, at = clock_timestamp();
end
$$;

-- reset begins a new history: the log is emptied, whatever its age, and all cursors expire. Who has not been sent what was in
-- it is told so. Writers of watched tables wait while it does that, and it waits for them, at most two seconds.
create function notifyql.reset() returns void
language sql
security definer
set search_path = pg_catalog, pg_temp
as $$ select notifyql.forget_history(false) $$;

do $$
declare
  server name := left(current_user, -length('owner')) || 'server';
begin
  execute format('grant select on notifyql.tick to %I', server);
  execute format('grant execute on function notifyql.tick(bigint), notifyql.era(), notifyql.enter(), notifyql.reset() to %I', server);
end
$$;
