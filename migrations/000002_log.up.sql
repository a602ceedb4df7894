-- The change log: every change, written by the trigger in the writer's own transaction. Its slots form a ring: they are
-- filled in turn by the database's clock, and emptied in turn by truncation.

-- slot is where a change goes that is logged now. Its body is made anew when setting.slot_seconds changes: an insert then
-- need not read a table to know it.
create function notifyql.set_slot() returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  execute format('create or replace function notifyql.slot() returns smallint language sql as %L',
    format('select ((date_part(''epoch'', clock_timestamp())::bigint / %s) %% 10)::smallint', new.slot_seconds));
  return null;
end
$$;
create trigger set_slot after insert or update of slot_seconds on notifyql.setting for each row execute function notifyql.set_slot();
insert into notifyql.setting default values;

create sequence notifyql.change_seq as bigint cache 1; -- cached values would break the order of one row's changes

create table notifyql.change (
  slot       smallint    not null default notifyql.slot(),
  xid        xid8        not null default pg_current_xact_id(),
  seq        bigint      not null default nextval('notifyql.change_seq'),
  at         timestamptz not null default clock_timestamp(),
  watch      integer     not null,            -- 0: a published event
  format     smallint    not null default 1,
  op         "char"      not null,            -- I U D T E: insert, update, delete, truncate, event
  flags      smallint    not null default 0,  -- 1: unserializable; 2: order within the transaction may be another;
                                              -- 4: the row left its partition, perhaps for another
  shared     boolean     not null,            -- belongs to every tenant
  tenant     text,                            -- of the new image; null or empty, and not shared: nobody's
  old_tenant text,                            -- of the old image
  leaf       oid,                             -- the table that the row is in: the watched one or a partition of it
  old_leaf   oid,                             -- the one that it was in, if that was another
  old_ctid   tid,
  new_ctid   tid,
  channel    text,                            -- of a published event
  event_type text,
  old        json,
  new        json,                            -- or an event's data
  primary key (xid, seq, slot)
) partition by list (slot);

-- Nothing is vacuumed: rows are not changed, and go all at once. (Against the wraparound of xids Postgres vacuums all the same.)
do $$
begin
  for slot in 0..9 loop
    execute format('create table notifyql.%I partition of notifyql.change for values in (%s)
                      with (autovacuum_enabled = false, toast.autovacuum_enabled = false)', 'change_' || slot, slot);
  end loop;
  execute format('grant select on notifyql.change, notifyql.change_seq to %I', left(current_user, -length('owner')) || 'server');
end
$$;

-- mode is what the servers' leader announced last: quiet, changes are notified, or busy, they are only logged. gate and lead are keys
-- of advisory locks: who holds lead is the leader, and while the leader holds gate exclusively, writers notify.
create table notifyql.mode (
  busy   boolean     not null default true,
  number bigint      not null default 0,  -- of the announcement
  at     timestamptz not null default clock_timestamp(),
  gate   bigint      not null default ('x' || right(replace(gen_random_uuid()::text, '-', ''), 16))::bit(64)::bigint,
  lead   bigint      not null default ('x' || right(replace(gen_random_uuid()::text, '-', ''), 16))::bit(64)::bigint,
  single boolean     not null primary key default true check (single)
);
insert into notifyql.mode default values;

-- gate tries to share the gate to the transaction's end, and tells whether that was granted: then the transaction need not notify,
-- and while it runs nobody gets the gate for himself. It never waits, and costs a microsecond.
do $$
begin
  execute format('create function notifyql.gate() returns boolean language sql as %L',
    format('select pg_try_advisory_xact_lock_shared(%s)', (select m.gate from notifyql.mode m)));
  execute format('grant select on notifyql.mode to %I', left(current_user, -length('owner')) || 'server');
end
$$;

-- announce sends the notification of a change that has just been logged: the change itself, or a marker that says where to
-- look in the log. It is for the owner's own functions only: they call it, through announced, as they insert, in RETURNING.
--
-- What a transaction has announced is kept in the setting notifyql.txn, which ends with the transaction and goes back
-- with a savepoint, as the notifications and the gate do:
--   <xid>:<<limit>     changes go inline while their seq is below limit
--   <xid>:><scopes>    markers only from here on; scopes are those announced: [watch,tenant,channel]…
--   <xid>~             nothing more: it has shared the gate, and said so
-- Anybody may set or reset it in his own session. That can cost a marker of his own, or send a change inline; a node that
-- has met one marker of a transaction reads the rest of it from the log, so it cannot change the order.
create function notifyql.announce(c notifyql.change) returns boolean
language plpgsql
as $$
declare
  max_inline  constant integer := 100;  -- changes of a transaction
  max_payload constant integer := 7999; -- bytes, by Postgres
  state   text    := current_setting('notifyql.txn', true);
  inline  boolean := c.flags & 6 = 0 and not coalesce(starts_with(state, c.xid || ':>'), false);
  sent    integer := 0;
  secret  name;
  payload text;
begin
  if not inline and c.flags & 2 = 0 and not c.shared
     and (coalesce(c.tenant, '') = '' and coalesce(c.old_tenant, '') = ''
          or c.tenant = c.old_tenant and strpos(state, notifyql.scope(c.watch, c.tenant, null)) > 0) then
    return true; -- nobody's; or announced, as most changes of a large transaction are
  end if;
  select s.channel into secret from notifyql.secret s;

  if secret is null or pg_notification_queue_usage() > 0.5 then
    -- A queue more than half full gets the few bytes that make nodes read the log.
    return secret is null or pg_notify(secret, concat('[1,"M",', c.xid, ',null,null,null]')) is null;
  end if;

  if inline then
    if not coalesce(starts_with(state, c.xid || ':<'), false) then
      state := set_config('notifyql.txn', concat(c.xid, ':<', lpad((c.seq + max_inline)::text, 19, '0')), true);
    elsif lpad(c.seq::text, 19, '0') collate "C" >= substr(state, length(c.xid::text) + 3) then
      -- Others draw from the sequence too: count.
      if current_setting('transaction_isolation') = 'serializable' then
        sent := max_inline; -- what is read here could make the writer's transaction fail
      else
        -- In this slot: a read of the whole log would wait where another slot is being emptied.
        execute format('select count(*) from (select from notifyql.%I l where l.xid = $1 and l.seq < $2 limit $3) l',
                       'change_' || c.slot)
           into sent using c.xid, c.seq, max_inline;
      end if;
      inline := sent < max_inline;
      state := set_config('notifyql.txn', concat(c.xid, ':<', lpad((c.seq + max_inline - sent)::text, 19, '0')), true);
    end if;
  end if;
  if inline and coalesce(pg_column_size(c.old), 0) + coalesce(pg_column_size(c.new), 0) <= max_payload then
    payload := json_build_array(1, c.op, c.xid::text::bigint, c.seq, (date_part('epoch', c.at) * 1000000)::bigint, c.watch,
                                c.flags, c.shared, c.tenant, c.old_tenant, c.leaf::bigint, c.old_ctid, c.new_ctid,
                                c.channel, c.event_type, c.old, c.new);
    if octet_length(payload) <= max_payload then
      return pg_notify(secret, payload) is null;
    end if;
  end if;
  return notifyql.announce_marker(c, secret, state, not inline);
end
$$;

-- scope is a marker's end: which table or channel, and which tenant; null: any.
create function notifyql.scope(watch integer, tenant text, channel text) returns text
language sql stable
as $$ select concat('[', watch, ',', coalesce(to_json(tenant)::text, 'null'), ',', coalesce(to_json(channel)::text, 'null'), ']') $$;

-- announce_marker says that a change is in the log, to each of its tenants. Where all that follows in the transaction is
-- in the log only, it says so once for each tenant, and many tenants are said to be any. (Nobody's change needs none,
-- unless the order of what follows hangs on it.)
create function notifyql.announce_marker(c notifyql.change, secret name, state text, from_here boolean) returns boolean
language plpgsql
as $$
declare
  max_scopes constant integer := 20;
  nobody     boolean := not c.shared and coalesce(c.tenant, '') = '' and coalesce(c.old_tenant, '') = '';
  tenant     text;
  scope      text;
begin
  if nobody and c.flags & 2 = 0 then
    return true;
  end if;
  if not coalesce(starts_with(state, c.xid || ':>'), false) then
    state := c.xid || ':>';
  end if;
  foreach tenant in array case when c.shared or nobody then array[null] else array[c.tenant, c.old_tenant] end::text[] loop
    continue when tenant = '' or tenant is null and not c.shared and not nobody;
    scope := notifyql.scope(c.watch, tenant, c.channel);
    continue when strpos(state, scope) > 0;
    if octet_length(scope) > 1000 or length(state) - length(replace(state, '][', '')) >= 2 * (max_scopes - 1) then
      scope := notifyql.scope(c.watch, null, null);
      continue when strpos(state, scope) > 0;
    end if;
    perform pg_notify(secret, concat('[1,"M",', c.xid, ',', substr(scope, 2)));
    state := state || scope;
  end loop;
  if from_here then
    perform set_config('notifyql.txn', state, true);
  end if;
  return true;
end
$$;

-- torn are the transactions that had notified a beginning when they found the gate open. Others may have been silent before they
-- went on: their rest does not follow their beginning.
create table notifyql.torn (xid xid8 not null primary key);
do $$
begin
  execute format('grant select on notifyql.torn to %I', left(current_user, -length('owner')) || 'server');
end
$$;

-- announce_deserted says that who made the stream quiet is gone: a transaction that has notified found the gate open. What else it
-- changes is only logged.
create function notifyql.announce_deserted(c notifyql.change) returns boolean
language plpgsql
as $$
begin
  insert into notifyql.torn (xid) values (c.xid) on conflict do nothing;
  perform pg_notify(s.channel, '[1,"B",0]'), set_config('notifyql.txn', c.xid || '~', true) from notifyql.secret s;
  return true;
end
$$;

-- announced announces a change if it has to be. In one expression, so that it costs next to nothing if it has not.
create function notifyql.announced(c notifyql.change) returns boolean
language sql
as $$
  select case when not notifyql.gate() then notifyql.announce(c)
              when coalesce(starts_with(current_setting('notifyql.txn', true), c.xid || ':'), false) then notifyql.announce_deserted(c)
              else true end
$$;

-- announce_mode is the leader's: it says which mode the stream is in from here on, and returns the announcement's number. That need not
-- survive a crash, which takes the leader along, and must not wait for a standby: who notifies waits for it.
create function notifyql.announce_mode(busy boolean) returns bigint
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  result bigint;
begin
  perform set_config('synchronous_commit', 'off', true);
  update notifyql.mode m set busy = announce_mode.busy, number = m.number + 1, at = clock_timestamp() returning m.number into result;
  perform pg_notify(s.channel, json_build_array(1, case when busy then 'B' else 'Q' end, result)::text) from notifyql.secret s;
  return result;
end
$$;
do $$
begin
  execute format('grant execute on function notifyql.announce_mode(boolean) to %I', left(current_user, -length('owner')) || 'server');
end
$$;
