drop function notifyql.watch_args(integer, regclass, smallint, boolean, smallint[], text, text, boolean, notifyql.way);
drop function notifyql.needs(regclass);
-- The triggers on users' tables go with their functions.
drop function notifyql.truncated() cascade;
drop function notifyql.capture_via() cascade;
drop function notifyql.keep_former() cascade;
drop function notifyql.capture_any() cascade;
drop function notifyql.capture() cascade;
drop view notifyql.ready cascade; -- and those of the watches
drop function notifyql.capture_slowly(oid, name, text[], text, record, record, tid, tid, integer, cid);
drop function notifyql.moved(text, integer, oid, record, cid, json, text, tid);
drop function notifyql.left_as(oid, record, cid, smallint, tid);
drop function notifyql.key(oid, record);
drop function notifyql.tenants_via(oid, text[], text, text, integer);
drop function notifyql.lost(oid, text);
drop table notifyql.former;
drop function notifyql.describe_way(oid, integer, oid, oid, integer, integer);
drop function notifyql.path(oid, notifyql.way, smallint);
drop function notifyql.tenants(oid, oid, text[], text, record, record);
drop function notifyql.images_pinned(oid, text[], text, record, record);
drop function notifyql.images(oid, text[], text, record, record);
drop function notifyql.column_name(oid, integer);

do $$
begin
  execute format('grant usage on schema notifyql to %I', left(current_user, -length('owner')) || 'image');
end
$$;
reset role;
select set_config('role', left(nspowner::regrole::text, -length('owner')) || 'image', true)
  from pg_namespace where nspname = 'notifyql';
drop function notifyql.image_without(record, text[]);
drop function notifyql.image_pair(record, record);
drop function notifyql.image(record);
reset role;
select set_config('role', nspowner::regrole::text, true) from pg_namespace where nspname = 'notifyql';
do $$
declare
  f regprocedure;
begin
  execute format('revoke all on schema notifyql from %I', left(current_user, -length('owner')) || 'image');
  -- Whoever owns the schema may drop what is in it.
  for f in select oid from pg_proc where pronamespace = 'notifyql'::regnamespace and proname ~ '^(make_)?tenant_of(_[0-9]+)?$' loop
    execute format('drop function %s', f);
  end loop;
end
$$;

drop function notifyql.plain_type(oid);
drop table notifyql.watch;
drop type notifyql.way;
