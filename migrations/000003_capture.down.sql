-- The triggers on users' tables go with their functions.
drop function notifyql.truncated() cascade;
drop function notifyql.capture() cascade;
do $$
begin
  execute format('grant usage on schema notifyql to %I', left(current_user, -length('owner')) || 'image');
end
$$;
reset role;
select set_config('role', left(nspowner::regrole::text, -length('owner')) || 'image', true)
  from pg_namespace where nspname = 'notifyql';
drop function notifyql.image_pinned("char", record, record, name, json);
drop function notifyql.image("char", record, record, name, json);
reset role;
select set_config('role', nspowner::regrole::text, true) from pg_namespace where nspname = 'notifyql';
do $$
begin
  execute format('revoke all on schema notifyql from %I', left(current_user, -length('owner')) || 'image');
end
$$;
drop function notifyql.announce(name, bigint, timestamptz, integer, "char", integer, boolean, text, text, oid, tid, tid,
                                text, text, json, json);
drop trigger copy_setting on notifyql.setting;
drop trigger copy_setting on notifyql.secret;
drop function notifyql.copy_setting();
drop table notifyql.watch;
