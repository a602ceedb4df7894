-- Retention: the slots of the log's ring are emptied in turn, each as a whole, by truncation. A slot may go when its newest
-- row is older than setting.retention. A slot whose turn was missed is filled again: it then holds two ages, and its newest
-- row decides for both.

-- A slot is emptied while it is neither the one that is written to nor the next. That leaves eight; one of them is for being late.
alter table notifyql.setting alter slot_seconds set default 14400;
update notifyql.setting set slot_seconds = 14400 where retention > 7 * slot_seconds * interval '1 second';
alter table notifyql.setting
  add constraint retention_is_at_most_7_slots check (retention <= 7 * slot_seconds * interval '1 second');

-- What was dropped. A place in the log, a snapshot, has lost something if dropped >= its xmax, or if a transaction in its xip
-- has ended and is <= dropped. That is to be looked at after the log was read, in a later statement and snapshot: a truncated
-- table is empty for older snapshots too.
create table notifyql.retention (
  dropped xid8        not null default '0',  -- the greatest xid of all rows that were ever dropped
  at      timestamptz,                       -- when rows were dropped last
  single  boolean     not null primary key default true check (single)
);
insert into notifyql.retention default values;

create table notifyql.ring (
  slot   smallint    not null primary key,
  newest timestamptz,                     -- a time at which it was written to, or a writer had yet to end; null: only its rows tell
  tries  integer     not null default 0,  -- how often in a row it could not be locked
  tried  timestamptz                      -- when it could not
);
insert into notifyql.ring (slot) select generate_series(0, 9);

-- occupied gives the slots that are not empty, each with its row of the greatest xid that this database has given out. (The
-- rows of a restored dump may have others, which nobody looks for.)
create function notifyql.occupied() returns table (slot smallint, xid xid8, at timestamptz)
language plpgsql
as $$
declare
  filled boolean;
begin
  for n in 0..9 loop
    execute format('select exists (select from notifyql.%I)', 'change_' || n) into filled;
    if filled then
      slot := n;
      execute format('select c.xid, c.at from notifyql.%I c where c.xid < $1 order by c.xid desc, c.seq desc limit 1',
                     'change_' || n) into xid, at using pg_snapshot_xmax(pg_current_snapshot());
      return next;
    end if;
  end loop;
end
$$;

-- empty drops all rows of a slot if none is newer than a time. It returns null then, or what kept it from that.
create function notifyql.empty(slot smallint, older_than timestamptz, out outcome text, out detail text)
language plpgsql
as $$
declare
  leaf   regclass := format('notifyql.%I', 'change_' || slot);
  began  timestamptz := clock_timestamp();
  look   record;  -- by a look at all rows, under no lock that anybody waits for
  last   xid8;
  behind record;  -- the newest tick's snapshot
  later  boolean; -- there are rows which that look, or that tick, did not see
begin
  outcome := 'kept';
  perform from notifyql.retention for update skip locked; -- a lock that no stranger can hold
  if not found then
    detail := 'another session is turning the ring';
    return;
  end if;

  if exists (select from pg_locks l
              where l.locktype = 'relation' and l.relation = leaf and l.mode = 'RowExclusiveLock' and l.granted
                and l.database = (select d.oid from pg_database d where d.datname = current_database())) then
    -- Its rows may be old, but will be committed only now: they are kept as long as others.
    update notifyql.ring r set newest = began where r.slot = empty.slot;
    detail := 'a transaction that wrote to it has not ended';
    return;
  end if;

  execute format('select pg_current_snapshot() as seen, max(at) filter (where at <= $1) as newest, bool_or(at > $1) as ahead from %s', leaf)
     into look using began;
  -- A row can be ahead of the clock if that was set back. Then it is as old as this look.
  update notifyql.ring r
     set newest = greatest(r.newest, look.newest, case when look.ahead and r.newest is null then began end)
   where r.slot = empty.slot
  returning r.newest into look.newest;
  if look.newest > older_than then
    detail := format('its newest change is of %s', look.newest);
    return;
  end if;

  -- From the newest tick everything must be readable: what goes must be behind it.
  select coalesce(pg_snapshot_xmax(t.snapshot), '0') as xmax, array(select pg_snapshot_xip(t.snapshot)) as xip into behind
    from (select) one left join (select t.snapshot from notifyql.tick t order by t.id desc limit 1) t on true;
  execute format('select exists (select from %1$s where xid >= $1 and xid < $2) or exists (select from %1$s where xid = any ($3))', leaf)
     into later using behind.xmax, pg_snapshot_xmax(look.seen), behind.xip;
  if later then
    detail := 'it holds changes that no tick sees yet';
    return;
  end if;

  begin
    execute format('lock table %s in access exclusive mode', leaf);
  exception when lock_not_available then
    update notifyql.ring r set tries = r.tries + 1, tried = clock_timestamp() where r.slot = empty.slot;
    outcome := 'blocked';
    detail := 'a lock on it is held, by a dump or a long read perhaps';
    return;
  end;
  execute format('select c.xid from %s c where c.xid < $1 order by c.xid desc limit 1', leaf)
     into last using pg_snapshot_xmax(pg_current_snapshot());
  execute format('select exists (select from %1$s where xid >= $1 and xid < $2) or exists (select from %1$s where xid = any ($3))', leaf)
     into later
    using pg_snapshot_xmax(look.seen), pg_snapshot_xmax(pg_current_snapshot()), array(select pg_snapshot_xip(look.seen));
  if later then
    update notifyql.ring r set newest = clock_timestamp() where r.slot = empty.slot;
    detail := 'it was written to just now';
    return;
  end if;

  execute format('truncate %s', leaf);
  update notifyql.ring r set newest = null, tries = 0, tried = null where r.slot = empty.slot;
  update notifyql.retention r set dropped = greatest(r.dropped, last), at = clock_timestamp() returning r.dropped into last;
  delete from notifyql.tick t where pg_snapshot_xmax(t.snapshot) <= last; -- from which nobody can read on
  delete from notifyql.torn t where t.xid <= last;
  delete from notifyql.former f where f.xid <= last;
  perform set_config('synchronous_commit', 'local', true); -- a standby that does not answer must not prolong the lock
  outcome := 'emptied';
  detail := format('its newest change was of %s', look.newest);
end
$$;

-- turn empties at most one slot, the oldest whose turn it is, and tells of all that are not empty: outcome is emptied, kept,
-- or blocked, if its turn has come and something stands in the way. It never waits long, and writers never wait for it; who
-- reads the log may wait for as long as it does, so after a slot could not be locked none is tried for a pause, and that one
-- each time for a longer one. It is to be called in a transaction of its own, again and again as long as it empties something.
create function notifyql.turn(pause interval default '30 seconds') returns table (slot smallint, outcome text, detail text)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '50ms'
as $$
declare
  began    timestamptz := clock_timestamp();
  current  bigint;  -- slot
  oldest   timestamptz;
  last     xid8;
  s        record;
  done     boolean; -- no other is tried now
begin
  if current_setting('transaction_isolation') <> 'read committed' or pg_current_xact_id_if_assigned() is not null then
    raise exception 'turn: not in a transaction that has done something else, and only in one that is READ COMMITTED'
      using errcode = 'active_sql_transaction', hint = 'Call it in a transaction of its own.';
  end if;
  select began - g.retention, floor(date_part('epoch', began))::bigint / g.slot_seconds % 10 into oldest, current from notifyql.setting g;
  done := exists (select from notifyql.ring r where r.tried between began - pause and began);
  select o.xid into last from notifyql.occupied() o order by o.xid desc nulls last limit 1;

  for s in select o.slot, o.xid, greatest(r.newest, case when o.at <= began then o.at end) as newest, r.tried, r.tries
             from notifyql.occupied() o join notifyql.ring r using (slot) order by o.xid nulls first loop
    slot := s.slot;
    outcome := 'kept';
    if (s.slot - current + 10) % 10 < 2 then
      detail := 'it is written to now, or next';
    elsif s.xid = last then
      detail := 'it holds the newest change';
    elsif s.newest > oldest then
      detail := format('its newest change is of %s', s.newest);
    elsif s.tried between began - pause * power(2, least(s.tries - 1, 5)) and began then
      outcome := 'blocked';
      detail := format('a lock on it was held %s times, last at %s', s.tries, s.tried);
    elsif done then
      detail := 'it is one of the next to be emptied';
    else
      select e.outcome, e.detail into outcome, detail from notifyql.empty(s.slot, oldest) e;
      done := outcome <> 'kept';
    end if;
    return next;
  end loop;
end
$$;

-- prune turns the ring where no server does: from cron, say, and as a statement of its own. It waits, holding nothing, for
-- what is blocked, until patience is over, and reports in lines for people.
create procedure notifyql.prune(inout report text default null, patience interval default '2 minutes', pause interval default '30 seconds')
language plpgsql
as $$
declare
  began   timestamptz := pg_catalog.clock_timestamp();
  emptied text := '';
  others  text;
  again   boolean;
  blocked boolean;
  t       record;
begin
  perform notifyql.enter();
  commit;
  perform notifyql.tick();
  commit;
  loop
    again := false;
    blocked := false;
    others := '';
    for t in select * from notifyql.turn(pause) loop
      if t.outcome = 'emptied' then
        again := true;
        emptied := emptied || pg_catalog.format(E'slot %s: emptied; %s\n', t.slot, t.detail);
      else
        blocked := blocked or t.outcome = 'blocked';
        others := others || pg_catalog.format(E'slot %s: %s; %s\n', t.slot, t.outcome, t.detail);
      end if;
    end loop;
    commit; -- which ends the locks
    if not again then
      exit when not blocked or pg_catalog.clock_timestamp() + pause > began + patience;
      perform pg_catalog.pg_sleep_for(pause);
    end if;
  end loop;
  report := coalesce(nullif(pg_catalog.rtrim(emptied || others, E'\n'), ''), 'the log is empty');
end
$$;

do $$
declare
  server name := left(current_user, -length('owner')) || 'server';
begin
  execute format('grant select on notifyql.retention, notifyql.ring to %I', server);
  execute format('grant execute on function notifyql.turn(interval) to %I', server);
  execute format('grant execute on procedure notifyql.prune(text, interval, interval) to %I', server);
end
$$;
