-- The roles of this database. Nobody logs in as one of them:
--   …_owner   owns everything in the schema and nothing else
--   …_watch   its members may watch tables that they own
--   …_image   converts rows to json, which may run users' code: it has no right to anything
--   …_tenant  finds tenants through foreign keys: it may read the key and the tenant column of the tables that these refer to
--   …_server  its members may run the server
-- A role belongs to the whole cluster, so its name holds the database's oid. A copy of the database keeps the roles of
-- its template: the schema's owner tells which they are, never the name.

do $$
declare
  base   text := format('notifyql_%s', (select oid from pg_database where datname = current_database()));
  prefix text := base;
  kind   text;
begin
  for n in 1..1000 loop
    exit when not exists (select from pg_roles where starts_with(rolname, prefix || '_')
                                                 and rolname ~ '_(owner|watch|image|tenant|server)$');
    prefix := format('%s_%s', base, n); -- the names are taken: by a copy of an earlier installation, say
  end loop;

  foreach kind in array array['owner', 'watch', 'image', 'tenant', 'server'] loop
    execute format('create role %I nologin', format('%s_%s', prefix, kind));
    execute format('grant usage on schema notifyql to %I', format('%s_%s', prefix, kind));
  end loop;
  execute format('revoke usage on schema notifyql from %I, %I', prefix || '_image', prefix || '_tenant');
  execute 'grant usage on schema notifyql to current_user';

  if not (select rolsuper from pg_roles where rolname = current_user) then
    execute format('grant %I, %I, %I to current_user', prefix || '_owner', prefix || '_image', prefix || '_tenant'); -- until the end of this transaction
    perform set_config('notifyql.acting', format('%I, %I, %I', prefix || '_owner', prefix || '_image', prefix || '_tenant'), true);
    execute format('grant %I, %I to current_user', prefix || '_watch', prefix || '_server'); -- to stay
  end if;

  execute format('alter schema notifyql owner to %I', prefix || '_owner');
  execute format('grant select on notifyql.migrations to %I', prefix || '_server');
  execute format('comment on role %I is %L', prefix || '_owner',
    'owns the schema notifyql of a database');
  execute format('comment on role %I is %L', prefix || '_watch',
    'members may call notifyql.watch for tables that they own');
  execute format('comment on role %I is %L', prefix || '_image',
    'converts rows for notifyql, without a right to anything');
  execute format('comment on role %I is %L', prefix || '_tenant',
    'finds tenants through foreign keys for notifyql');
  execute format('comment on role %I is %L', prefix || '_server',
    'members may run the notifyql server');

  perform set_config('role', prefix || '_owner', true);
end
$$;

-- The notifications' channel. LISTEN and NOTIFY need no right, so its name is the right.
create table notifyql.secret (
  channel name not null primary key
    default 'notifyql_' || replace(gen_random_uuid()::text, '-', ''),
  single  boolean not null unique default true check (single)
);
insert into notifyql.secret default values;

create table notifyql.setting (
  slot_seconds integer  not null default 10800 check (slot_seconds > 0),      -- of one slot of the log's ring
  retention    interval not null default '24 hours' check (retention > '0'),  -- how long the log keeps a change
  mode         text     not null default 'auto' check (mode in ('auto', 'quiet', 'busy')), -- which mode servers keep; auto: theirs to say
  min_schema   integer  not null default 1,       -- the lowest version a program must know to run on this schema
  single       boolean  not null primary key default true check (single)
);

-- Nothing of ours is for everybody.
alter default privileges revoke execute on functions from public;

do $$
begin
  execute format('grant select on notifyql.secret, notifyql.setting to %I',
    left(current_user, -length('owner')) || 'server');
end
$$;
