drop table notifyql.setting;
drop table notifyql.secret;
alter default privileges grant execute on functions to public;

-- The schema goes back to whoever removes it. A role that something else still depends on (a copy of this database,
-- somebody's grant) stays.
do $$
declare
  prefix text := left(current_user, -length('owner'));
  kind   text;
begin
  reset role;
  execute 'alter schema notifyql owner to current_user';
  foreach kind in array array['owner', 'watch', 'image', 'tenant', 'server'] loop
    execute format('revoke all on schema notifyql from %I', prefix || kind);
  end loop;
  execute format('revoke all on notifyql.migrations from %I', prefix || 'server');
  perform set_config('notifyql.acting', '', true); -- the memberships go with the roles

  -- The rights to read tables are their owners' gifts, which nobody else could take back one by one.
  foreach kind in array array['server', 'tenant'] loop
    if pg_has_role(prefix || kind, 'usage')
       and not exists (select from pg_shdepend where refobjid = (prefix || kind)::regrole and deptype = 'o') then
      execute format('drop owned by %I', prefix || kind);
    end if;
  end loop;
  foreach kind in array array['watch', 'image', 'tenant', 'server', 'owner'] loop
    begin
      execute format('drop role %I', prefix || kind);
    exception when dependent_objects_still_exist then
      execute format('revoke %I from current_user', prefix || kind);
      raise warning 'role % stays: something in another database, or a grant, still depends on it', prefix || kind;
    end;
  end loop;
end
$$;
