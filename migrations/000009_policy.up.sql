-- Policies: who sees which rows and columns of a watched table, beyond its tenants. They belong to the table, not to its watch: one
-- that is declared before the table is watched, or while it is not, is in force as soon as it is. The servers apply them; nothing
-- here is asked when a row is written.
--
-- Who owns a table declares its policies. The trigger on notifyql.policy sees to that, with the rights of who writes there, and to
-- what a policy may be; so the functions run as their caller and have no right of their own.

create table notifyql.policy (
  rel         regclass not null,  -- the table; a dump keeps it by its name
  rel_oid     oid      not null,  -- rel when the policy was declared; another value: the database was restored
  name        text     not null,  -- the table's name then: a table that is made anew by it is seen by nobody until it has its policies
  kind        text     not null check (kind in ('row', 'column')),
  attnum      smallint not null,
  column_name name     not null,  -- the column's name then
  claim       text     check (claim is null or claim <> '' and kind = 'row'), -- of a row's policy: whose value the column must have; null: the user's id
  roles       text[]   not null,  -- that see all rows; or, of a column's policy, that see the column
  primary key (rel, rel_oid, kind, attnum)
);

-- policy_table is the table that a policy is about: where it is gone, the one that has its name now.
create function notifyql.policy_table(rel regclass, name text) returns oid
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce((select c.oid from pg_class c where c.oid = $1),
                  (select c.oid from pg_class c join pg_namespace n on n.oid = c.relnamespace where format('%I.%I', n.nspname, c.relname) = $2))
$$;

-- policy_column is what the column of a policy is called now; of one that is gone, what it was called.
create function notifyql.policy_column(rel regclass, rel_oid oid, attnum smallint, column_name name) returns name
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce((select a.attname from pg_attribute a where $1 = $2 and a.attrelid = $1 and a.attnum = $3 and not a.attisdropped), $4)
$$;

-- comparable tells whether a type, below its domains, is one by whose values rows can be given to identities.
create function notifyql.comparable(type oid) returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with recursive below as (
    select $1 as oid
    union all
    select t.typbasetype from below b join pg_type t on t.oid = b.oid where t.typtype = 'd'
  )
  select bool_or(t.typtype = 'e' or t.oid in ('smallint'::regtype, 'integer'::regtype, 'bigint'::regtype, 'numeric'::regtype,
           'text'::regtype, 'varchar'::regtype, 'bpchar'::regtype, 'name'::regtype, 'uuid'::regtype, 'boolean'::regtype))
    from below b join pg_type t on t.oid = b.oid where t.typtype <> 'd'
$$;

create function notifyql.check_policy() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  t record; -- the table and the column
begin
  if tg_op <> 'INSERT' and not coalesce((select pg_has_role(c.relowner, 'usage') from pg_class c
                                          where c.oid = notifyql.policy_table(old.rel, old.name)), true)
     or tg_op <> 'DELETE' and not coalesce((select pg_has_role(c.relowner, 'usage') from pg_class c where c.oid = new.rel), true) then
    raise exception 'only the owner of a table declares its policies' using errcode = 'insufficient_privilege';
  end if;
  if tg_op = 'DELETE' then
    return old;
  end if;

  select format('%I.%I', n.nspname, c.relname) as name, a.attname, a.atttypid, a.attgenerated = 'v' as virtual into t
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    join pg_attribute a on a.attrelid = c.oid and a.attnum = new.attnum and a.attnum > 0 and not a.attisdropped
   where c.oid = new.rel and c.relkind in ('r', 'p');
  if not found then
    raise exception 'cannot restrict %: it is no table with this column', new.rel using errcode = 'undefined_column';
  end if;
  if new.roles is null or array_position(new.roles, null) is not null or array_position(new.roles, '') is not null then
    raise exception 'cannot restrict %: a role has no name', t.name using errcode = 'invalid_parameter_value';
  end if;
  if new.claim = '' then
    raise exception 'cannot restrict %: the claim has no name', t.name
      using errcode = 'invalid_parameter_value', hint = 'Name a claim, or leave it out for the user''s id.';
  end if;
  if new.kind = 'row' and t.virtual then
    raise exception 'cannot restrict % by %: it is a virtual generated column, whose value no trigger sees', t.name, quote_ident(t.attname)
      using errcode = 'feature_not_supported', hint = 'Make it a stored one: generated always as (…) stored.';
  end if;
  if new.kind = 'row' and not notifyql.comparable(t.atttypid) then
    raise exception 'cannot restrict % by %: it is of type %', t.name, quote_ident(t.attname), format_type(t.atttypid, null)
      using errcode = 'feature_not_supported',
            hint = 'Such a column is a smallint, integer, bigint, numeric, text, varchar, char, name, uuid, boolean or an enum, or a domain over one.';
  end if;
  new.rel_oid := new.rel;
  new.name := t.name;
  new.column_name := t.attname;
  return new;
end
$$;

create trigger check_policy before insert or update or delete on notifyql.policy
  for each row execute function notifyql.check_policy();

-- policy_changed tells the nodes to read the catalog again, and keeps programs away that know nothing of policies.
create function notifyql.policy_changed() returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  update notifyql.setting set min_schema = 9 where min_schema < 9;
  perform notifyql.say_watched(0);
  return null;
end
$$;

create trigger policy_changed after insert or update or delete on notifyql.policy
  for each row execute function notifyql.policy_changed();

-- declare_policy declares a policy, or changes it. Where it is there already it does nothing.
create function notifyql.declare_policy(tbl regclass, kind text, col name, claim text, roles text[]) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  n smallint := (select a.attnum from pg_attribute a where a.attrelid = tbl and a.attname = col and a.attnum > 0 and not a.attisdropped);
begin
  if n is null then
    raise exception 'cannot restrict %: it has no column %', coalesce(tbl::text, 'null'), coalesce(quote_ident(col), 'null')
      using errcode = 'undefined_column';
  end if;
  -- What a restored dump has left, or a table of this name that is gone.
  delete from notifyql.policy p
   where p.kind = declare_policy.kind and p.column_name = col and notifyql.policy_table(p.rel, p.name) = tbl
     and (p.rel <> tbl or p.rel_oid <> tbl);
  if not exists (select from notifyql.policy p
                  where p.rel = tbl and p.rel_oid = tbl and p.kind = declare_policy.kind and p.attnum = n
                    and p.claim is not distinct from declare_policy.claim and p.roles = declare_policy.roles) then
    insert into notifyql.policy (rel, kind, attnum, claim, roles)
    values (tbl, declare_policy.kind, n, declare_policy.claim, declare_policy.roles)
    on conflict on constraint policy_pkey do update set claim = excluded.claim, roles = excluded.roles;
  end if;
end
$$;

-- drop_policy drops it, and tells whether there was one.
create function notifyql.drop_policy(tbl regclass, kind text, col name) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  delete from notifyql.policy p
   where p.kind = drop_policy.kind and notifyql.policy_column(p.rel, p.rel_oid, p.attnum, p.column_name) = col
     and (p.rel = tbl or notifyql.policy_table(p.rel, p.name) = tbl);
  return found;
end
$$;

-- restrict lets an identity see only the rows whose column has its user's id or, if claim names one, a value of that claim. Who has
-- one of the roles in bypass sees all. Of several policies of a table all must let a row through.
create function notifyql.restrict(tbl regclass, column_name name, claim text default null, bypass text[] default '{}') returns void
language sql
as $$ select notifyql.declare_policy($1, 'row', $2, $3, $4) $$;

create function notifyql.unrestrict(tbl regclass, column_name name) returns boolean
language sql
as $$ select notifyql.drop_policy($1, 'row', $2) $$;

-- restrict_column lets only identities with one of the roles see that there is such a column.
create function notifyql.restrict_column(tbl regclass, column_name name, roles text[]) returns void
language sql
as $$ select notifyql.declare_policy($1, 'column', $2, null, $3) $$;

create function notifyql.unrestrict_column(tbl regclass, column_name name) returns boolean
language sql
as $$ select notifyql.drop_policy($1, 'column', $2) $$;

-- restricted lists the policies. state is 'in force', or says what is wrong.
create view notifyql.restricted as
select p.rel as tbl,
       p.kind,
       notifyql.policy_column(p.rel, p.rel_oid, p.attnum, p.column_name) as column_name,
       p.claim,
       p.roles,
       case
         when notifyql.policy_table(p.rel, p.name) is null then 'the table is gone'
         when c.oid is null then 'the table was made anew, and nobody sees its rows: restrict it again'
         when p.rel <> p.rel_oid then 'the database was restored, and nobody sees the rows: restrict the table again'
         when a.attnum is null and p.kind = 'row' then 'the column is gone, so that only who bypasses the policy sees rows'
         when a.attnum is null then 'the column is gone; one that has its name now is restricted'
         when p.kind = 'row' and p.attnum = any (w.exclude) then 'the column is excluded, so that only who bypasses the policy sees rows'
         when p.kind = 'row' and not notifyql.comparable(a.atttypid)
           then 'the column has another type, so that only who bypasses the policy sees rows'
         when w.id is null then 'the table is not watched'
         else 'in force'
       end as state
  from notifyql.policy p
  left join pg_catalog.pg_class c on c.oid = p.rel
  left join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum = p.attnum and not a.attisdropped
  left join notifyql.watch w on w.rel = p.rel and w.rel = w.rel_oid and w.confirmed;

do $$
declare
  prefix text := left(current_user, -length('owner'));
  f regprocedure;
begin
  for f in select p.oid from pg_proc p
            where p.pronamespace = 'notifyql'::regnamespace
              and p.proname in ('policy_table', 'policy_column', 'comparable', 'declare_policy', 'drop_policy', 'restrict', 'unrestrict',
                                'restrict_column', 'unrestrict_column') loop
    execute format('grant execute on function %s to %I', f, prefix || 'watch');
  end loop;
  for f in select p.oid from pg_proc p -- the view's
            where p.pronamespace = 'notifyql'::regnamespace and p.proname in ('policy_table', 'policy_column', 'comparable') loop
    execute format('grant execute on function %s to %I', f, prefix || 'server');
  end loop;
  execute format('grant select, insert, update, delete on notifyql.policy to %I', prefix || 'watch');
  execute format('grant select on notifyql.policy to %I', prefix || 'server');
  execute format('grant select on notifyql.restricted to %I, %I', prefix || 'watch', prefix || 'server');
end
$$;
