set local lock_timeout = '200ms';
set local search_path = pg_catalog, pg_temp;

-- Act as the schema's owner. A superuser may; another needs to be let into the roles, for this transaction.
do $$
declare
  owner  name := (select pg_get_userbyid(nspowner) from pg_namespace where nspname = 'notifyql');
  image  name := left(owner, -length('owner')) || 'image';
  tenant name := left(owner, -length('owner')) || 'tenant';
  member text := case when current_setting('server_version_num')::integer < 160000 then 'member' else 'set' end;
begin
  if owner !~ '^notifyql_[0-9_]+_owner$' then
    return; -- nothing is migrated yet
  end if;
  if not pg_has_role(owner, member) then
    execute format('grant %I, %I, %I to current_user', owner, image, tenant);
    perform set_config('notifyql.acting', format('%I, %I, %I', owner, image, tenant), true);
  end if;
  perform set_config('role', owner, true);
end
$$;
