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
create trigger set_slot after insert or update on notifyql.setting for each row execute function notifyql.set_slot();
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
  flags      smallint    not null default 0,  -- 1: unserializable; 2: order within the transaction may be another
  shared     boolean     not null,            -- belongs to every tenant
  tenant     text,                            -- of the new image; null or empty, and not shared: nobody's
  old_tenant text,                            -- of the old image
  leaf       oid,                             -- the table that the row is in: the watched one or a partition of it
  old_ctid   tid,
  new_ctid   tid,
  channel    text,                            -- of a published event
  event_type text,
  old        json,
  new        json,                            -- or an event's data
  primary key (xid, seq, slot)
) partition by list (slot);

do $$
begin
  for slot in 0..9 loop
    execute format('create table notifyql.%I partition of notifyql.change for values in (%s)', 'change_' || slot, slot);
  end loop;
  execute format('grant select on notifyql.change, notifyql.change_seq to %I', left(current_user, -length('owner')) || 'server');
end
$$;
