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

-- has_triggers tells whether the table has our triggers just as a watch makes them.
create function notifyql.has_triggers(tbl regclass, args text[]) returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select count(*) = 1 + (select count(*) from notifyql.truncatable(tbl))
    from pg_trigger t
   where t.tgenabled = 'A' and t.tgqual is null and t.tgconstraint = 0 and t.tgattr = ''
     and (t.tgrelid = tbl and t.tgname = notifyql.row_trigger(args) and t.tgfoid = notifyql.row_function(args)
          and t.tgtype = 1 | 4 | 8 | 16            -- row, insert, delete, update; and after
          and t.tgnargs = 7                        -- the last may be in another language
          and position((select string_agg(convert_to(a, getdatabaseencoding()) || '\x00', '' order by n)
                          from unnest(args[:6]) with ordinality u(a, n)) in t.tgargs) = 1
          or t.tgrelid in (select notifyql.truncatable(tbl)) and t.tgname = ' notifyql truncate'
          and t.tgfoid = 'notifyql.truncated'::regproc and t.tgtype = 32
          and t.tgargs = convert_to(args[1], getdatabaseencoding()) || '\x00')
$$;

-- drop_triggers drops ours, as its caller.
create function notifyql.drop_triggers(tbl regclass) returns void
language plpgsql
as $$
declare
  t record;
begin
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

-- believe makes, or with tbl null drops, the view by which capture believes a watch: see notifyql.ready.
create function notifyql.believe(id integer, tbl oid, trigger_name name) returns void
language plpgsql
as $$
declare
  view name;
begin
  for view in select relname from pg_class
               where relnamespace = 'notifyql'::regnamespace and relkind = 'v' and relname ~ format('^%s_[0-9]+ ', id) loop
    execute format('drop view notifyql.%I', view);
  end loop;
  if tbl is not null then
    execute format('create view notifyql.%I as select slot from notifyql.ready', concat(id, '_', tbl, trigger_name));
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
              where p.pronamespace = 'notifyql'::regnamespace and p.proname in ('image', 'image_pair', 'image_without', 'convert')
                and (r.rolsuper or r.rolcanlogin or r.rolname = current_user)) then
    raise exception 'cannot watch %: the schema notifyql was restored without the roles that own what is in it', tbl
      using errcode = 'object_not_in_prerequisite_state',
            hint = 'Drop the schema notifyql (cascade), migrate, and watch again; or restore the roles before the dump.';
  end if;
  -- A restored dump may have left the id of a table by this name, or of another by this oid.
  for result in delete from notifyql.watch where rel = tbl and rel_oid <> tbl or rel_oid = tbl and rel <> tbl returning id loop
    perform notifyql.believe(result, null, null);
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
  tbl regclass, tenant_attnum smallint, shared boolean, exclude smallint[], type_name text, field_name text, ignore_rls boolean
) returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  w    notifyql.watch;
  args text[];
begin
  select * into w from notifyql.watch where rel = tbl for update;
  args := notifyql.watch_args(w.id, tbl, tenant_attnum, shared, exclude, type_name, field_name, ignore_rls);
  if not coalesce(notifyql.has_triggers(tbl, args), false) then
    raise exception 'the triggers on % are not those that notifyql.watch makes with these settings: call that', tbl
      using errcode = 'object_not_in_prerequisite_state';
  end if;
  update notifyql.watch t
     set shared        = confirm.shared,
         tenant_attnum = confirm.tenant_attnum,
         tenant_column = nullif(args[2], ''),
         exclude       = confirm.exclude,
         type_name     = confirm.type_name,
         field_name    = confirm.field_name,
         ignore_rls    = confirm.ignore_rls,
         confirmed     = true,
         xid           = pg_current_xact_id()
   where t.id = w.id
     and (t.confirmed, t.shared, t.tenant_attnum, t.tenant_column, t.exclude, t.type_name, t.field_name, t.ignore_rls)
         is distinct from
         (true, confirm.shared, confirm.tenant_attnum, nullif(args[2], ''), confirm.exclude, confirm.type_name,
          confirm.field_name, confirm.ignore_rls);
  if found or to_regclass(concat('notifyql."', w.id, '_', tbl::oid, notifyql.row_trigger(args), '"')) is null then
    perform notifyql.believe(w.id, tbl, notifyql.row_trigger(args));
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
  if exists (select from pg_trigger where tgrelid = tbl and tgname like ' notifyql%' and tgparentid = 0) then
    raise exception '% still has the triggers of notifyql.watch: call notifyql.unwatch', tbl
      using errcode = 'object_not_in_prerequisite_state';
  end if;
  delete from notifyql.watch where rel = tbl returning id into gone;
  if gone is null then
    return false;
  end if;
  perform notifyql.believe(gone, null, null);
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
  ignore_rls    boolean default false
) returns integer
language plpgsql
set search_path = pg_catalog, pg_temp
set lock_timeout = '500ms'
set client_min_messages = 'warning'
as $$
declare
  no     record;  -- why not
  tenant record;  -- the tenant's column
  hidden smallint[];
  wrong  text;
  unseen text;
  watch_id integer;
  args   text[];
  part   regclass;
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
  if not shared then
    select a.attnum, a.atttypid::regtype as type, a.attgenerated = 'v' as virtual into tenant
      from pg_attribute a where a.attrelid = tbl and a.attname = watch.tenant_column and a.attnum > 0 and not a.attisdropped;
    if not found then
      raise exception 'cannot watch %: it has no tenant column %', tbl, coalesce(quote_ident(tenant_column), 'null')
        using errcode = 'undefined_column',
              hint = 'Name it with tenant_column => ''…'', or show every row to every tenant with shared => true.';
    end if;
    if tenant.virtual then
      raise exception 'cannot watch %: its tenant column % is a virtual generated column, whose value no trigger sees', tbl, quote_ident(tenant_column)
        using errcode = 'feature_not_supported', hint = 'Make it a stored one: generated always as (…) stored.';
    end if;
    if tenant.type not in ('smallint', 'integer', 'bigint', 'numeric', 'text', 'varchar', 'name', 'uuid') then
      raise exception 'cannot watch %: its tenant column % is of type %', tbl, quote_ident(tenant_column), tenant.type
        using errcode = 'feature_not_supported',
              hint = 'A tenant is a smallint, integer, bigint, numeric, text, varchar, name or uuid; a stored generated column can make one.';
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
  if tenant.attnum = any (hidden) then
    raise exception 'cannot exclude %: it is the tenant column', quote_ident(tenant_column)
      using errcode = 'invalid_parameter_value', hint = 'Every subscriber knows its tenant: leave it in.';
  end if;

  select string_agg(quote_ident(a.attname), ', ' order by a.attnum) into unseen
    from pg_attribute a where a.attrelid = tbl and a.attgenerated = 'v' and a.attnum <> all (hidden);
  if unseen is not null then
    raise warning 'watching %: left out is %, as a virtual generated column, whose value no trigger sees', tbl, unseen
      using hint = 'Make it a stored one, or exclude it.';
  end if;

  watch_id := notifyql.reserve(tbl);
  args := notifyql.watch_args(watch_id, tbl, tenant.attnum, shared, hidden, type_name, field_name, coalesce(ignore_rls, false));
  if exists (select from notifyql.watched w where w.id = watch_id and w.state = 'watched') and notifyql.has_triggers(tbl, args) then
    perform notifyql.let_read(tbl, hidden);
    return watch_id;
  end if;

  perform notifyql.drop_triggers(tbl);
  for part in select w.tbl from notifyql.watched w join pg_partition_tree(watch.tbl) t on t.relid = w.tbl where w.tbl <> watch.tbl loop
    perform notifyql.unwatch(part); -- its changes arrive as the root's from now on
  end loop;
  execute format('create trigger %1$I after insert or update or delete on %2$s '
                 'for each row execute function %3$s(%4$L, %5$L, %6$L, %7$L, %8$L, %9$L, %10$L)', notifyql.row_trigger(args), tbl,
                 notifyql.row_function(args), args[1], args[2], args[3], args[4], args[5], args[6], args[7]);
  execute format('alter table %s enable always trigger %I', tbl, notifyql.row_trigger(args));
  for part in select notifyql.truncatable(tbl) loop
    execute format('create trigger " notifyql truncate" after truncate on %s '
                   'for each statement execute function notifyql.truncated(%L)', part, args[1]);
    execute format('alter table only %s enable always trigger " notifyql truncate"', part);
  end loop;
  perform notifyql.confirm(tbl, tenant.attnum, shared, hidden, type_name, field_name, coalesce(ignore_rls, false));
  perform notifyql.let_read(tbl, hidden);
  return watch_id;
exception when lock_not_available then
  raise exception 'cannot watch %: a transaction that is under way holds a lock on %', tbl, tbl
    using errcode = 'lock_not_available', hint = 'Try again when it has ended: writers are not made to wait for it.';
end
$$;

-- unwatch ends it, and tells whether the table was watched. What was logged stays until it is too old.
create function notifyql.unwatch(tbl regclass) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
set lock_timeout = '500ms'
as $$
begin
  perform notifyql.drop_triggers(tbl);
  perform notifyql.forbid_reading(tbl);
  return notifyql.forget(tbl);
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
         when not w.shared and not exists (
                select from pg_attribute a where a.attrelid = w.rel and a.attnum = w.tenant_attnum
                                             and a.attname = w.tenant_column and not a.attisdropped)
           then 'its tenant column was renamed or dropped, so its rows are nobody''s: watch the table again'
         when not notifyql.has_triggers(w.rel, notifyql.watch_args(w.id, w.rel, w.tenant_attnum, w.shared, w.exclude, w.type_name,
                                                                   w.field_name, w.ignore_rls))
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
                                'forget', 'refusal', 'watch', 'unwatch', 'capture', 'capture_any', 'truncated') loop
    execute format('grant execute on function %s to %I', f, prefix || 'watch');
  end loop;
  for f in select p.oid from pg_proc p -- the view's
            where p.pronamespace = 'notifyql'::regnamespace
              and p.proname in ('needs', 'watch_args', 'row_trigger', 'row_function', 'truncatable', 'has_triggers') loop
    execute format('grant execute on function %s to %I', f, prefix || 'server');
  end loop;
  execute format('grant select on notifyql.watched to %I, %I', prefix || 'watch', prefix || 'server');
  execute format('grant select on notifyql.watch to %I', prefix || 'server');
end
$$;
