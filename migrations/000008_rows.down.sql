-- The right to read a table stays until the role goes, with the first migration.
drop function notifyql.forbid_reading(regclass);
drop function notifyql.let_read(regclass, smallint[]);
drop function notifyql.let_find(regclass);
drop function notifyql.found_by(regclass);
drop function notifyql.leads_to(regclass);
drop function notifyql.let_use(regclass, name[]);
drop function notifyql.server_role();

do $$
begin
  execute format('grant usage on schema notifyql to %I', left(current_user, -length('owner')) || 'image');
end
$$;
reset role;
select set_config('role', left(nspowner::regrole::text, -length('owner')) || 'image', true)
  from pg_namespace where nspname = 'notifyql';
drop function notifyql.convert(anyelement);
reset role;
select set_config('role', nspowner::regrole::text, true) from pg_namespace where nspname = 'notifyql';
do $$
begin
  execute format('revoke all on schema notifyql from %I', left(current_user, -length('owner')) || 'image');
end
$$;
