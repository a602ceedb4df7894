reset role;
do $$
begin
  if current_setting('notifyql.acting', true) <> '' then
    execute format('revoke %s from current_user', current_setting('notifyql.acting'));
  end if;
end
$$;
