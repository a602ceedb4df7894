-- Reading a watched table as it stands. The server's login reads it by the right that watch gives to the role …_server. What it
-- reads are the columns as their types' output functions write them, which is nobody's code; the server makes images of that.

-- A value whose conversion to json would run users' code is converted by the role that has no right to anything. An empty text
-- is a failure.
do $$
begin
  execute format('grant usage, create on schema notifyql to %I', left(current_user, -length('owner')) || 'image');
end
$$;
reset role;
select set_config('role', left(nspowner::regrole::text, -length('owner')) || 'image', true)
  from pg_namespace where nspname = 'notifyql';

create function notifyql.convert(value anyelement) returns text
language plpgsql strict
security definer
as $$
begin
  return to_json(value);
exception when others or assert_failure then
  return '';
end
$$;
revoke execute on function notifyql.convert(anyelement) from public;
do $$
begin
  execute format('grant execute on function notifyql.convert(anyelement) to %I', left(current_user, -length('image')) || 'server');
end
$$;

reset role;
select set_config('role', nspowner::regrole::text, true) from pg_namespace where nspname = 'notifyql';
do $$
begin
  execute format('revoke all on schema notifyql from %I', left(current_user, -length('owner')) || 'image');
end
$$;

-- server_role is the role whose members may run the server.
create function notifyql.server_role() returns name
language sql stable
set search_path = pg_catalog, pg_temp
as $$ select (left(pg_get_userbyid(nspowner), -length('owner')) || 'server')::name from pg_namespace where nspname = 'notifyql' $$;

-- let_use lets roles into a table's schema.
create function notifyql.let_use(tbl regclass, roles name[]) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  space name := (select n.nspname from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = tbl);
  r     name;
begin
  foreach r in array roles loop
    if not has_schema_privilege(r, space, 'usage') then
      if has_schema_privilege(space, 'usage with grant option') then
        execute format('grant usage on schema %I to %I', space, r);
      else
        raise warning '%', case when r = notifyql.server_role() then format('the server cannot read the rows of %s as they stand', tbl)
                                else format('tenants cannot be found in %s: rows that refer to it are nobody''s', tbl) end
          using hint = format('Have the owner of the schema run: grant usage on schema %I to %I', space, r);
      end if;
    end if;
  end loop;
end
$$;

-- leads_to is the table to which the way to a watched table's tenants leads, and found_by gives those columns of a table that ways
-- to it go by.
create function notifyql.leads_to(tbl regclass) returns regclass
language sql stable
security definer
set search_path = pg_catalog, pg_temp
as $$ select (w.via).rel::regclass from notifyql.watch w where w.rel = tbl and w.confirmed and w.rel_oid = tbl $$;

create function notifyql.found_by(tbl regclass) returns smallint[]
language sql stable
security definer
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(array_agg(distinct n), '{}')
    from notifyql.watch w cross join lateral (values ((w.via).key), (w.tenant_attnum)) c(n)
   where (w.via).rel = tbl and w.confirmed and w.rel = w.rel_oid
$$;

-- let_read gives the server the right to read a table's columns, but for hidden ones. It runs as its caller, the table's owner,
-- and changes nothing where the right is as it should be. What everybody may read is the owner's affair.
create function notifyql.let_read(tbl regclass, hidden smallint[]) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  server  name := notifyql.server_role();
  columns text; -- that are seen, in brackets
  wrong   boolean;
begin
  hidden := array(select h from unnest(hidden) h where h <> all (notifyql.found_by(tbl)));
  if hidden = '{}' then
    columns := '';
    wrong := not has_table_privilege(server, tbl, 'select');
  else
    select format('(%s)', string_agg(format('%I', a.attname), ', ' order by a.attnum) filter (where not a.attnum = any (hidden))),
           bool_or(not a.attnum = any (hidden) and not has_column_privilege(server, tbl, a.attnum, 'select'))
           or exists (select from pg_class c, aclexplode(c.relacl) p where c.oid = tbl and p.grantee = server::regrole and p.privilege_type = 'SELECT')
           or bool_or(a.attnum = any (hidden) and exists (select from aclexplode(a.attacl) p where p.grantee = server::regrole))
      into columns, wrong
      from pg_attribute a where a.attrelid = tbl and a.attnum > 0 and not a.attisdropped;
  end if;
  if wrong then
    execute format('revoke select on %s from %I', tbl, server); -- that of single columns goes with it
    if columns <> '()' then -- else nothing is seen
      execute format('grant select %s on %s to %I', columns, tbl, server);
    end if;
  end if;

  perform notifyql.let_use(tbl, array[server]);
end
$$;

-- let_find gives the right to read the columns of a table that ways go by, and no others, to the role that finds tenants, and to the
-- server, which reads what let_read says where the table is watched. It runs as its caller, the table's owner.
create function notifyql.let_find(tbl regclass) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  named   smallint[] := notifyql.found_by(tbl);
  watched boolean;
  hidden  smallint[];
  columns text;
  reader  name;
begin
  if not exists (select from pg_class c where c.oid = tbl and pg_has_role(c.relowner, 'usage')) then
    return; -- it is gone, or another's by now
  end if;
  select array(select a.attnum from pg_attribute a where a.attrelid = let_find.tbl and a.attname = any (w.exclude)) into hidden
    from notifyql.watched w where w.tbl = let_find.tbl;
  watched := found;
  if watched then
    perform notifyql.let_read(tbl, hidden);
  end if;
  select string_agg(format('%I', a.attname), ', ') into columns
    from pg_attribute a where a.attrelid = tbl and a.attnum = any (named) and not a.attisdropped;
  foreach reader in array array[notifyql.tenant_role(), case when not watched then notifyql.server_role() end] loop
    continue when reader is null;
    if exists (select from pg_attribute a, aclexplode(a.attacl) p
                where a.attrelid = tbl and p.grantee = reader::regrole and a.attnum <> all (named)) then
      execute format('revoke select on %s from %I', tbl, reader);
    end if;
    if exists (select from unnest(named) n where not has_column_privilege(reader, tbl, n, 'select')) then
      execute format('grant select (%s) on %s to %I', columns, tbl, reader);
    end if;
  end loop;
  if columns is not null then
    perform notifyql.let_use(tbl, array[notifyql.tenant_role(), notifyql.server_role()]);
  end if;
end
$$;

-- forbid_reading takes it back.
create function notifyql.forbid_reading(tbl regclass) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  server name := notifyql.server_role();
begin
  if exists (select from pg_class c left join pg_attribute a on a.attrelid = c.oid, aclexplode(c.relacl || a.attacl) p
              where c.oid = tbl and p.grantee = server::regrole) then
    execute format('revoke select on %s from %I', tbl, server);
    perform notifyql.let_find(tbl); -- others may need some of it
  end if;
end
$$;

do $$
declare
  prefix text := left(current_user, -length('owner'));
begin
  execute format('grant execute on function notifyql.server_role(), notifyql.let_use(regclass, name[]), notifyql.leads_to(regclass),
                    notifyql.found_by(regclass), notifyql.let_find(regclass), notifyql.let_read(regclass, smallint[]),
                    notifyql.forbid_reading(regclass) to %I',
    prefix || 'watch');
  execute format('grant execute on function notifyql.server_role() to %I', prefix || 'server');
end
$$;
