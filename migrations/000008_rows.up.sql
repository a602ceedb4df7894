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

-- let_read gives the server the right to read a table's columns, but for hidden ones. It runs as its caller, the table's owner,
-- and changes nothing where the right is as it should be. What everybody may read is the owner's affair.
create function notifyql.let_read(tbl regclass, hidden smallint[]) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  server  name := notifyql.server_role();
  columns text; -- that are seen, in brackets
  space   name;
  wrong   boolean;
begin
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

  select n.nspname into space from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = tbl;
  if not has_schema_privilege(server, space, 'usage') then
    if has_schema_privilege(space, 'usage with grant option') then
      execute format('grant usage on schema %I to %I', space, server);
    else
      raise warning 'the server cannot read the rows of % as they stand', tbl
        using hint = format('Have the owner of the schema run: grant usage on schema %I to %I', space, server);
    end if;
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
  end if;
end
$$;

do $$
declare
  prefix text := left(current_user, -length('owner'));
begin
  execute format('grant execute on function notifyql.server_role(), notifyql.let_read(regclass, smallint[]), notifyql.forbid_reading(regclass) to %I',
    prefix || 'watch');
  execute format('grant execute on function notifyql.server_role() to %I', prefix || 'server');
end
$$;
