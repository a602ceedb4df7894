-- The triggers on users' tables go with their functions.
drop function notifyql.truncated() cascade;
drop function notifyql.capture() cascade;
drop view notifyql.ready cascade; -- and those of the watches
drop function notifyql.slow_tenants(oid, oid, text[], text, record, record);
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
drop function notifyql.image(record);
reset role;
select set_config('role', nspowner::regrole::text, true) from pg_namespace where nspname = 'notifyql';
do $$
begin
  execute format('revoke all on schema notifyql from %I', left(current_user, -length('owner')) || 'image');
end
$$;

drop function notifyql.announce_marker(notifyql.change, name, text, boolean);
drop function notifyql.scope(integer, text, text);
drop function notifyql.announce(notifyql.change);
drop table notifyql.watch;
