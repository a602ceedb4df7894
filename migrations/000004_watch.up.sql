-- Watching a table. watch runs as its caller: that he can make the triggers, fire always, proves his right to the table.
-- What it needs of ours it does through reserve, confirm and forget, which run as the owner and which anybody with the
-- right to watch may call for any table: they believe only what the table's triggers say.

-- row_trigger is the name of a watch's row trigger.
create function notifyql.row_trigger(args text[]) returns name
language sql immutable
as $$ select case when args[4] like 'p%' then ' notifyql root' else ' notifyql' end::name $$;

-- truncatable gives a table and its partitions at any depth, but for foreign ones.
create function notifyql.truncatable(tbl regclass) returns setof regclass
language sql stable
as $$
  select c.oid::regclass
    from (select tbl as relid union select relid from pg_partition_tree(tbl)) t join pg_class c on c.oid = t.relid
   where c.relkind in ('r', 'p')
$$;

-- tenant_role is the role that finds tenants through foreign keys.
create function notifyql.tenant_role() returns name
language sql stable
set search_path = pg_catalog, pg_temp
as $$ select (left(pg_get_userbyid(nspowner), -length('owner')) || 'tenant')::name from pg_namespace where nspname = 'notifyql' $$;

-- find_way finds the way to a row's tenant: through a foreign key of one column, named by the column or by its own name, to the column that
-- says whose the row is which it refers to.
create function notifyql.find_way(tbl regclass, tenant_via name, tenant_column name, out via notifyql.way, out tenant_attnum smallint)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  fks    oid[];
  f      pg_constraint;
  parent record;
  wrong  text;
begin
  select array_agg(c.oid) into fks from pg_constraint c where c.conrelid = tbl and c.contype = 'f' and c.conname = tenant_via;
  if fks is null then
    select array_agg(c.oid) into fks
      from pg_constraint c join pg_attribute a on a.attrelid = tbl and a.attnum = c.conkey[1] and not a.attisdropped
     where c.conrelid = tbl and c.contype = 'f' and cardinality(c.conkey) = 1 and a.attname = tenant_via
       and not exists (select from pg_constraint p where p.oid = c.conparentid and p.conrelid = tbl); -- to a partition of what that one refers to
  end if;
  if coalesce(cardinality(fks), 0) <> 1 then
    raise exception 'cannot watch %: %', tbl, case when fks is null then format('it has no foreign key %I, and none of a single column %1$I', tenant_via)
                                                   else format('several foreign keys are of the column %I', tenant_via) end
      using errcode = 'undefined_object', hint = 'Name with tenant_via a foreign key, or its column if that has no other.';
  end if;
  select * into f from pg_constraint where oid = fks[1];
  select c.oid::regclass as tbl, c.relrowsecurity as secured, pg_has_role(c.relowner, 'usage') as own, k.atttypid as key_type,
         t.attnum as tenant_attnum, t.atttypid as tenant_type, t.attgenerated = 'v' as virtual
    into parent
    from pg_class c
    join pg_attribute k on k.attrelid = c.oid and k.attnum = f.confkey[1]
    left join pg_attribute t on t.attrelid = c.oid and t.attname = find_way.tenant_column and t.attnum > 0 and not t.attisdropped
   where c.oid = f.confrelid;
  wrong := case
    when cardinality(f.conkey) <> 1
      then format('its foreign key %I has several columns', f.conname)
    when not parent.own
      then format('its tenant is that of %s, which is another''s', parent.tbl)
    when parent.tenant_attnum is null
      then format('%s, to which %I refers, has no tenant column %s', parent.tbl, tenant_via, coalesce(quote_ident(tenant_column), 'null'))
    when parent.virtual
      then format('the tenant column %I of %s is a virtual generated column', tenant_column, parent.tbl)
    when notifyql.plain_type(parent.tenant_type) is null
      then format('the tenant column %I of %s is of type %s', tenant_column, parent.tbl, format_type(parent.tenant_type, null))
    when not exists (select from pg_type y where y.oid = notifyql.plain_type(parent.key_type) and y.typtype = 'b')
      then format('its foreign key %I refers to a column of type %s', f.conname, format_type(parent.key_type, null))
    when parent.secured and not notifyql.may_pass(parent.tbl)
      then format('row level security is on for %s, and hides its tenant', parent.tbl)
  end;
  if wrong is not null then
    raise exception 'cannot watch %: %', tbl, wrong using errcode = 'feature_not_supported', hint = case
      when not parent.own then 'Have who owns both tables call it.'
      when parent.secured and parent.tenant_attnum is not null then format('Run: create policy notifyql on %s for select to %I using (true)', parent.tbl, notifyql.tenant_role())
      else 'A foreign key of one column can lead to a tenant: both of type smallint, integer, bigint, numeric, text, varchar, name or uuid, the tenant of an enum too.' end;
  end if;
  via := row(f.oid, f.conkey[1], f.confrelid, f.confkey[1], null);
  tenant_attnum := parent.tenant_attnum;
  via.path := notifyql.path(tbl, via, tenant_attnum);
end
$$;

-- may_pass tells whether a policy of the table is there for the role that finds tenants.
create function notifyql.may_pass(tbl regclass) returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select exists (select from pg_policy p
                  where p.polrelid = tbl and p.polpermissive and p.polcmd in ('r', '*') and notifyql.tenant_role()::regrole = any (p.polroles))
$$;

-- written_args is how a trigger's arguments are written.
create function notifyql.written_args(args text[]) returns bytea
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(string_agg(convert_to(a, getdatabaseencoding()) || '\x00', '' order by n), '')
    from unnest(args) with ordinality u(a, n)
$$;

-- former_trigger is the name of a watch's trigger on the table to which its way leads, and former_args is what that carries.
create function notifyql.former_trigger(args text[]) returns name
language sql immutable
as $$ select concat(' notifyql ', args[1])::name $$;

create function notifyql.former_args(args text[]) returns text[]
language sql stable
as $$ select array[args[1], args[9], (args[12]::text[])[3], (args[13]::text[])[3]] $$;

-- has_triggers tells whether the table has our triggers just as a watch makes them, and so the one to which its way leads.
create function notifyql.has_triggers(tbl regclass, args text[]) returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select count(*) = 1 + (select count(*) from notifyql.truncatable(tbl)) + case when args[9] is not null then 1 else 0 end
    from pg_trigger t
   where t.tgenabled = 'A' and t.tgqual is null and t.tgconstraint = 0 and t.tgattr = ''
     and (t.tgrelid = tbl and t.tgname = notifyql.row_trigger(args) and t.tgfoid = notifyql.row_function(args)
          and t.tgtype = 1 | 4 | 8 | 16            -- row, insert, delete, update; and after
          and t.tgnargs = cardinality(args)
          and position(notifyql.written_args(args[:6]) in t.tgargs) = 1 -- the next may be in another language
          and substr(t.tgargs, length(t.tgargs) - length(notifyql.written_args(args[8:])) + 1) = notifyql.written_args(args[8:])
          or t.tgrelid in (select notifyql.truncatable(tbl)) and t.tgname = ' notifyql truncate'
          and t.tgfoid = 'notifyql.truncated'::regproc and t.tgtype = 32
          and t.tgargs = notifyql.written_args(args[:1])
          or t.tgrelid = args[9]::oid and t.tgname = notifyql.former_trigger(args) and t.tgfoid = 'notifyql.keep_former'::regproc
          and t.tgtype = 1 | 8 | 16
          and t.tgargs = notifyql.written_args(notifyql.former_args(args)))
$$;

-- drop_triggers drops ours, as its caller: on a table to which a way led only if that is his; they do nothing any more.
create function notifyql.drop_triggers(tbl regclass) returns void
language plpgsql
as $$
declare
  t record;
begin
  for t in select g.tgrelid::regclass as rel, g.tgname
             from notifyql.watched w
             join pg_trigger g on g.tgfoid = 'notifyql.keep_former'::regproc and g.tgparentid = 0 and g.tgname = concat(' notifyql ', w.id)
             join pg_class c on c.oid = g.tgrelid
            where w.tbl = drop_triggers.tbl and pg_has_role(c.relowner, 'usage') loop
    execute format('drop trigger %I on %s', t.tgname, t.rel);
  end loop;
  for t in select g.tgrelid::regclass as rel, g.tgname from pg_trigger g
            where not g.tgisinternal and g.tgparentid = 0
              and (g.tgrelid = tbl and g.tgname in (' notifyql', ' notifyql root')
                   or g.tgrelid in (select notifyql.truncatable(tbl)) and g.tgname = ' notifyql truncate') loop
    execute format('drop trigger %I on %s', t.tgname, t.rel);
  end loop;
end
$$;

-- say_watched tells the nodes to read the catalog again.
create function notifyql.say_watched(id integer) returns void
language sql
as $$ select pg_notify(channel, concat('[1,"W",', id, ']')) from notifyql.secret $$;

-- believe makes, or with tbl null drops, the view by which capture believes a watch: see notifyql.ready. Where a way leads to
-- its tenants, there is one for the trigger there, and the function that looks them up.
create function notifyql.believe(id integer, tbl oid, args text[] default null) returns void
language plpgsql
as $$
declare
  view name;
begin
  for view in select relname from pg_class
               where relnamespace = 'notifyql'::regnamespace and relkind = 'v' and relname ~ format('^%s_[0-9]+ ', id) loop
    execute format('drop view notifyql.%I', view);
  end loop;
  if to_regprocedure(format('notifyql.tenant_of_%s(text)', id)) is not null then
    execute format('drop function notifyql.tenant_of_%s(text)', id);
  end if;
  if tbl is null then
    return;
  end if;
  execute format('create view notifyql.%I as select slot from notifyql.ready', concat(id, '_', tbl, notifyql.row_trigger(args)));
  if args[9] is not null then
    execute format('create view notifyql.%I as select slot from notifyql.ready', concat(id, '_', args[9], notifyql.former_trigger(args)));
    perform from notifyql.setting for update; -- one at a time: the schema's rights are one row
    execute format('grant usage, create on schema notifyql to %I', notifyql.tenant_role());
    perform notifyql.make_tenant_of(id, (
      select format('select concat(p.%I) from %s %s p where p.%I = $1::%s', (args[13]::text[])[3], case when c.relkind <> 'p' then 'only' end,
                    c.oid::regclass, a.attname, format_type(notifyql.plain_type(a.atttypid), null))
        from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum = args[10]::integer
       where c.oid = args[9]::oid));
    execute format('revoke all on schema notifyql from %I', notifyql.tenant_role());
  end if;
end
$$;

-- reserve gives the table's id, a new one if it has none. It refuses if what a conversion runs as has rights, as it has
-- where a dump was restored without the roles that own it.
create function notifyql.reserve(tbl regclass) returns integer
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  result integer;
begin
  if exists (select from pg_proc p join pg_roles r on r.oid = p.proowner
              where p.pronamespace = 'notifyql'::regnamespace and p.proname in ('image', 'image_pair', 'image_without', 'convert', 'make_tenant_of')
                and (r.rolsuper or r.rolcanlogin or r.rolname = current_user)) then
    raise exception 'cannot watch %: the schema notifyql was restored without the roles that own what is in it', tbl
      using errcode = 'object_not_in_prerequisite_state',
            hint = 'Drop the schema notifyql (cascade), migrate, and watch again; or restore the roles before the dump.';
  end if;
  -- A restored dump may have left the id of a table by this name, or of another by this oid.
  for result in delete from notifyql.watch where rel = tbl and rel_oid <> tbl or rel_oid = tbl and rel <> tbl returning id loop
    perform notifyql.believe(result, null);
  end loop;
  select id into result from notifyql.watch where rel = tbl for update;
  if not found then
    insert into notifyql.watch (rel, rel_oid) values (tbl, tbl) returning id into result; -- or it waits, and fails, beside another
  end if;
  return result;
end
$$;

-- confirm takes over the settings that the table's triggers prove. Where they are confirmed already it does nothing, since
-- anybody may call it.
create function notifyql.confirm(
  tbl regclass, tenant_attnum smallint, shared boolean, exclude smallint[], type_name text, field_name text, ignore_rls boolean,
  via notifyql.way default null
) returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  w    notifyql.watch;
  args text[];
  tenant name;
begin
  select * into w from notifyql.watch where rel = tbl for update;
  args := notifyql.watch_args(w.id, tbl, tenant_attnum, shared, exclude, type_name, field_name, ignore_rls, via);
  if not coalesce(notifyql.has_triggers(tbl, args) and ((via).fk is null or (via).path = notifyql.path(tbl, via, tenant_attnum)), false) then
    raise exception 'the triggers on % are not those that notifyql.watch makes with these settings: call that', tbl
      using errcode = 'object_not_in_prerequisite_state';
  end if;
  tenant := case when (via).fk is null then nullif(args[2], '') else (args[13]::text[])[3] end;
  update notifyql.watch t
     set shared        = confirm.shared,
         tenant_attnum = confirm.tenant_attnum,
         tenant_column = tenant,
         via           = confirm.via,
         exclude       = confirm.exclude,
         type_name     = confirm.type_name,
         field_name    = confirm.field_name,
         ignore_rls    = confirm.ignore_rls,
         confirmed     = true,
         xid           = pg_current_xact_id()
   where t.id = w.id
     and (t.confirmed, t.shared, t.tenant_attnum, t.tenant_column, t.via, t.exclude, t.type_name, t.field_name, t.ignore_rls)
         is distinct from
         (true, confirm.shared, confirm.tenant_attnum, tenant, confirm.via, confirm.exclude, confirm.type_name,
          confirm.field_name, confirm.ignore_rls);
  if found or to_regclass(concat('notifyql."', w.id, '_', tbl::oid, notifyql.row_trigger(args), '"')) is null then
    perform notifyql.believe(w.id, tbl, args);
    perform notifyql.say_watched(w.id);
  end if;
end
$$;

-- forget drops the watch of a table that has no trigger of ours any more.
create function notifyql.forget(tbl regclass) returns boolean
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  gone integer;
begin
  if exists (select from pg_trigger where tgrelid = tbl and tgname in (' notifyql', ' notifyql root', ' notifyql truncate') and tgparentid = 0) then
    raise exception '% still has the triggers of notifyql.watch: call notifyql.unwatch', tbl
      using errcode = 'object_not_in_prerequisite_state';
  end if;
  delete from notifyql.watch where rel = tbl returning id into gone;
  if gone is null then
    return false;
  end if;
  perform notifyql.believe(gone, null);
  perform notifyql.say_watched(gone);
  return true;
end
$$;

-- refusal says why a table cannot be watched, and what to do: two texts, or no row.
create function notifyql.refusal(tbl regclass, ignore_rls boolean) returns table (reason text, hint text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select r.reason, r.hint
    from pg_class c
    cross join lateral (values
      (c.relnamespace = 'notifyql'::regnamespace and c.relowner <> (select nspowner from pg_namespace where nspname = 'notifyql'),
       'it is in the schema notifyql, where a role of that name makes its tables',
       format('Move it: alter table %s set schema public; and set the search_path of the role, or give it another name.', tbl)),
      (c.relnamespace in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace, 'pg_toast'::regnamespace)
         or c.relnamespace = 'notifyql'::regnamespace,
       'it is a system table', 'Watch a table of your own.'),
      (c.relkind = 'v', 'it is a view', 'Watch the tables it selects from.'),
      (c.relkind = 'm', 'it is a materialized view', 'Watch the tables it selects from.'),
      (c.relkind = 'f', 'it is a foreign table: writes at its source fire no trigger here', 'Watch it where it lives.'),
      (c.relkind not in ('r', 'p', 'v', 'm', 'f'), 'it is not a table', 'Watch a table.'),
      (exists (select from pg_partition_tree(c.oid) t join pg_class k on k.oid = t.relid where k.relkind = 'f'),
       'a partition of it is a foreign table: writes at its source fire no trigger here', 'Watch it where it lives.'),
      (c.relpersistence = 't', 'it is a temporary table, which no subscriber could read', 'Watch a permanent table.'),
      (exists (select from pg_inherits i join pg_class k on k.oid = i.inhrelid
                where i.inhparent = c.oid and not k.relispartition),
       'tables inherit from it: a write to one of them would fire no trigger here',
       'Watch the inheriting tables, or make it a partitioned table.'),
      (not c.relispartition and exists (select from pg_inherits where inhrelid = c.oid),
       'it inherits from another table: what is read through that would not show here',
       'Remove the inheritance with ALTER TABLE … NO INHERIT, or use a partitioned table.'),
      (c.relispartition and exists (
         select from pg_partition_ancestors(c.oid) a join pg_trigger t on t.tgrelid = a.relid
          where a.relid <> c.oid and t.tgname = ' notifyql root'),
       'it is a partition of a watched table', 'Its changes arrive as those of ' || pg_partition_root(c.oid)::text || '.'),
      (not coalesce(ignore_rls, false) and exists (
         select from pg_class p
          where p.relrowsecurity
            and p.oid in (select c.oid union all select relid from pg_partition_tree(c.oid))),
       'row level security is on, and subscribers do not pass its policies: they see all rows of their tenant',
       'Accept that with ignore_rls => true.')
    ) r(refused, reason, hint)
   where c.oid = tbl and r.refused
   limit 1
$$;

-- watch makes every change of the table known to subscribers. It says what it refuses and why; called again with the
-- same settings it does nothing, with others it changes them.
create function notifyql.watch(
  tbl           regclass,
  tenant_column name    default 'tenant_id',
  shared        boolean default false,
  exclude       name[]  default '{}',
  type_name     text    default null,
  field_name    text    default null,
  ignore_rls    boolean default false,
  tenant_via    name    default null
) returns integer
language plpgsql
set search_path = pg_catalog, pg_temp
set lock_timeout = '500ms'
set client_min_messages = 'warning'
as $$
declare
  no     record;  -- why not
  tenant record;  -- the tenant's column
  via    notifyql.way;
  found_way record;
  hidden smallint[];
  wrong  text;
  unseen text;
  watch_id integer;
  args   text[];
  part   regclass;
  led    regclass; -- where the way to its tenants led before
begin
  if tbl is null or not exists (select from pg_class where oid = tbl) then
    raise exception 'cannot watch: no such table' using errcode = 'undefined_table';
  end if;
  select * into no from notifyql.refusal(tbl, ignore_rls);
  if found then
    raise exception 'cannot watch %: %', tbl, no.reason using errcode = 'feature_not_supported', hint = no.hint;
  end if;

  shared := coalesce(shared, false);
  select null::smallint as attnum, null::regtype as type, false as virtual into tenant;
  if shared and tenant_via is not null then
    raise exception 'cannot watch %: its rows are shared or have tenants, not both', tbl
      using errcode = 'invalid_parameter_value', hint = 'Leave out tenant_via or shared.';
  elsif tenant_via is not null then
    select y.via, y.tenant_attnum into found_way from notifyql.find_way(tbl, tenant_via, tenant_column) y;
    via := found_way.via;
    tenant.attnum := found_way.tenant_attnum;
  elsif not shared then
    select a.attnum, a.atttypid::regtype as type, a.attgenerated = 'v' as virtual into tenant
      from pg_attribute a where a.attrelid = tbl and a.attname = watch.tenant_column and a.attnum > 0 and not a.attisdropped;
    if not found then
      raise exception 'cannot watch %: it has no tenant column %', tbl, coalesce(quote_ident(tenant_column), 'null')
        using errcode = 'undefined_column',
              hint = 'Name it with tenant_column => ''…'', or the foreign key to the row that has one with tenant_via => ''…'', or show every row to every tenant with shared => true.';
    end if;
    if tenant.virtual then
      raise exception 'cannot watch %: its tenant column % is a virtual generated column, whose value no trigger sees', tbl, quote_ident(tenant_column)
        using errcode = 'feature_not_supported', hint = 'Make it a stored one: generated always as (…) stored.';
    end if;
    if notifyql.plain_type(tenant.type) is null then
      raise exception 'cannot watch %: its tenant column % is of type %', tbl, quote_ident(tenant_column), tenant.type
        using errcode = 'feature_not_supported',
              hint = 'A tenant is a smallint, integer, bigint, numeric, text, varchar, name or uuid, a domain over one, or an enum without a cast to json; a stored generated column can make one.';
    end if;
  end if;

  select array_agg(a.attnum order by a.attnum), string_agg(quote_ident(e.name), ', ') filter (where a.attnum is null)
    into hidden, wrong
    from unnest(exclude) e(name)
    left join pg_attribute a on a.attrelid = tbl and a.attname = e.name and a.attnum > 0 and not a.attisdropped;
  if wrong is not null then
    raise exception 'cannot exclude %: % has no such column', wrong, tbl using errcode = 'undefined_column',
      hint = 'Name columns of the table in exclude => ''{…}''.';
  end if;
  hidden := coalesce(hidden, '{}');
  if coalesce((via).attnum, tenant.attnum) = any (hidden) then
    raise exception 'cannot exclude %: it is the tenant column', quote_ident(coalesce(tenant_via, tenant_column))
      using errcode = 'invalid_parameter_value', hint = 'Every subscriber knows its tenant: leave it in.';
  end if;

  select string_agg(quote_ident(a.attname), ', ' order by a.attnum) into unseen
    from pg_attribute a where a.attrelid = tbl and a.attgenerated = 'v' and a.attnum <> all (hidden);
  if unseen is not null then
    raise warning 'watching %: left out is %, as a virtual generated column, whose value no trigger sees', tbl, unseen
      using hint = 'Make it a stored one, or exclude it.';
  end if;

  watch_id := notifyql.reserve(tbl);
  args := notifyql.watch_args(watch_id, tbl, tenant.attnum, shared, hidden, type_name, field_name, coalesce(ignore_rls, false), via);
  if exists (select from notifyql.watched w where w.id = watch_id and w.state = 'watched') and notifyql.has_triggers(tbl, args) then
    perform notifyql.let_read(tbl, hidden), notifyql.let_find((via).rel);
    return watch_id;
  end if;

  led := notifyql.leads_to(tbl);
  perform notifyql.drop_triggers(tbl);
  for part in select w.tbl from notifyql.watched w join pg_partition_tree(watch.tbl) t on t.relid = w.tbl where w.tbl <> watch.tbl loop
    perform notifyql.unwatch(part); -- its changes arrive as the root's from now on
  end loop;
  execute format('create trigger %1$I after insert or update or delete on %2$s '
                 'for each row execute function %3$s(%4$s)', notifyql.row_trigger(args), tbl, notifyql.row_function(args),
                 (select string_agg(quote_literal(a), ', ' order by n) from unnest(args) with ordinality u(a, n)));
  execute format('alter table %s enable always trigger %I', tbl, notifyql.row_trigger(args));
  for part in select notifyql.truncatable(tbl) loop
    execute format('create trigger " notifyql truncate" after truncate on %s '
                   'for each statement execute function notifyql.truncated(%L)', part, args[1]);
    execute format('alter table only %s enable always trigger " notifyql truncate"', part);
  end loop;
  if (via).fk is not null then
    execute format('create trigger %I after update or delete on %s for each row execute function notifyql.keep_former(%s)', notifyql.former_trigger(args),
                   (via).rel::regclass, (select string_agg(quote_literal(a), ', ' order by n) from unnest(notifyql.former_args(args)) with ordinality u(a, n)));
    execute format('alter table %s enable always trigger %I', (via).rel::regclass, notifyql.former_trigger(args));
  end if;
  perform notifyql.confirm(tbl, tenant.attnum, shared, hidden, type_name, field_name, coalesce(ignore_rls, false), via);
  perform notifyql.let_read(tbl, hidden), notifyql.let_find((via).rel), notifyql.let_find(led);
  return watch_id;
exception when lock_not_available then
  raise exception 'cannot watch %: a transaction that is under way holds a lock on %', tbl, concat_ws(' or ', tbl, (via).rel::regclass)
    using errcode = 'lock_not_available', hint = 'Try again when it has ended: writers are not made to wait for it.';
end
$$;

-- unwatch ends it, and tells whether the table was watched. What was logged stays until it is too old.
create function notifyql.unwatch(tbl regclass) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
set lock_timeout = '500ms'
as $$
declare
  led       regclass := notifyql.leads_to(tbl);
  forgotten boolean;
begin
  perform notifyql.drop_triggers(tbl);
  forgotten := notifyql.forget(tbl);
  perform notifyql.forbid_reading(tbl), notifyql.let_find(led);
  return forgotten;
exception when lock_not_available then
  raise exception 'cannot unwatch %: a transaction that is under way holds a lock on %', tbl, tbl
    using errcode = 'lock_not_available', hint = 'Try again when it has ended: writers are not made to wait for it.';
end
$$;

-- watched lists the watched tables. state is 'watched', or what is wrong: then nothing, or nothing of a tenant's,
-- reaches subscribers until it is put right.
create view notifyql.watched as
select w.id,
       w.rel as tbl,
       w.tenant_column,
       (select a.attname from pg_attribute a where a.attrelid = w.rel and a.attnum = (w.via).attnum and not a.attisdropped) as tenant_via,
       w.shared,
       array(select a.attname from pg_attribute a
              where a.attrelid = w.rel and a.attnum = any (w.exclude) and not a.attisdropped order by a.attnum) as exclude,
       w.type_name,
       w.field_name,
       w.ignore_rls,
       case
         when c.oid is null then 'the table is gone'
         when w.rel <> w.rel_oid then 'the database was restored: watch the table again'
         when not w.confirmed or not exists (
                select from pg_class v where v.relnamespace = 'notifyql'::regnamespace and v.relname like w.id || '\_' || w.rel_oid || ' %')
           then 'watching it was not finished: watch the table again'
         when (w.via).fk is not null and notifyql.path(w.rel, w.via, w.tenant_attnum) is distinct from (w.via).path
           then format('the way to its tenant (%s) is not what it was, so its rows are nobody''s: watch the table again', (w.via).path)
         when (w.via).fk is not null and not (
                has_column_privilege(notifyql.tenant_role(), (w.via).rel, (w.via).key, 'select')
                and has_column_privilege(notifyql.tenant_role(), (w.via).rel, w.tenant_attnum, 'select')
                and (select has_schema_privilege(notifyql.tenant_role(), p.relnamespace, 'usage')
                            and (not p.relrowsecurity or notifyql.may_pass(p.oid)) from pg_class p where p.oid = (w.via).rel))
           then format('the right to find its tenant (%s) was taken away, so its rows are nobody''s: watch the table again', (w.via).path)
         when not w.shared and (w.via).fk is null and not exists (
                select from pg_attribute a where a.attrelid = w.rel and a.attnum = w.tenant_attnum
                                             and a.attname = w.tenant_column and not a.attisdropped)
           then 'its tenant column was renamed or dropped, so its rows are nobody''s: watch the table again'
         when not notifyql.has_triggers(w.rel, notifyql.watch_args(w.id, w.rel, w.tenant_attnum, w.shared, w.exclude, w.type_name,
                                                                   w.field_name, w.ignore_rls, w.via))
           then 'its triggers are not as they should be (disabled or dropped, or there are new partitions or types): watch the table again'
         else 'watched'
       end as state
  from notifyql.watch w
  left join pg_class c on c.oid = w.rel;

do $$
declare
  prefix text := left(current_user, -length('owner'));
  f regprocedure;
begin
  for f in select p.oid from pg_proc p
            where p.pronamespace = 'notifyql'::regnamespace
              and p.proname in ('needs', 'watch_args', 'row_trigger', 'row_function', 'truncatable', 'has_triggers', 'drop_triggers', 'reserve', 'confirm',
                                'forget', 'refusal', 'watch', 'unwatch', 'capture', 'capture_any', 'capture_via', 'keep_former', 'truncated',
                                'tenant_role', 'plain_type', 'path', 'describe_way', 'find_way', 'may_pass', 'written_args', 'former_trigger', 'former_args') loop
    execute format('grant execute on function %s to %I', f, prefix || 'watch');
  end loop;
  for f in select p.oid from pg_proc p -- the view's
            where p.pronamespace = 'notifyql'::regnamespace
              and p.proname in ('needs', 'watch_args', 'row_trigger', 'row_function', 'truncatable', 'has_triggers', 'tenant_role', 'plain_type',
                                'path', 'may_pass', 'written_args', 'former_trigger', 'former_args', 'describe_way') loop
    execute format('grant execute on function %s to %I', f, prefix || 'server');
  end loop;
  execute format('grant select on notifyql.watched to %I, %I', prefix || 'watch', prefix || 'server');
  execute format('grant select on notifyql.watch to %I', prefix || 'server');
end
$$;
