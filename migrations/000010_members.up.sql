-- A policy of kind member: a row is visible while the identity's user has a row with the same key in another watched table, the member
-- table. attnum is then the table's column, and claim whose value the member table's column for the user must have.

alter table notifyql.policy
  drop constraint policy_kind_check,
  drop constraint policy_check, -- of the claim
  add column member      regclass, -- the member table
  add column member_oid  oid,      -- and as rel_oid
  add column member_name text,
  add column key_attnum  smallint, -- its column that the table's must equal
  add column key_name    name,
  add column user_attnum smallint, -- its column for the user
  add column user_name   name,
  add constraint policy_kind_check check (kind in ('row', 'column', 'member')),
  add constraint policy_check check (claim is null or claim <> '' and kind in ('row', 'member')),
  add constraint policy_member_check check ((kind = 'member') = (member is not null and key_attnum is not null and user_attnum is not null));

-- has_key tells whether a table has a primary key that no two rows share, not even within a transaction: by it rows are told apart.
create function notifyql.has_key(tbl oid) returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$ select exists (select from pg_index i where i.indrelid = $1 and i.indisprimary and i.indimmediate) $$;

-- joins tells whether two columns' values are equal just where their texts are.
create function notifyql.joins(a_type oid, a_collation oid, b_type oid, b_collation oid) returns boolean
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select $1 in ('smallint'::regtype, 'integer'::regtype, 'bigint'::regtype) and $3 in ('smallint'::regtype, 'integer'::regtype, 'bigint'::regtype)
      or $1 = 'uuid'::regtype and $3 = 'uuid'::regtype
      or $1 in ('text'::regtype, 'varchar'::regtype) and $3 in ('text'::regtype, 'varchar'::regtype) and $2 = $4
$$;

create function notifyql.check_member() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  own record;
  key record;
  usr record;
begin
  if new.kind <> 'member' then
    return new;
  end if;
  select a.attname, a.atttypid, a.attcollation, a.attgenerated = 'v' as virtual into own
    from pg_attribute a where a.attrelid = new.rel and a.attnum = new.attnum and not a.attisdropped;
  select a.attname, a.atttypid, a.attcollation, a.attgenerated = 'v' as virtual into key
    from pg_attribute a where a.attrelid = new.member and a.attnum = new.key_attnum and a.attnum > 0 and not a.attisdropped;
  select a.attname, a.atttypid, a.attgenerated = 'v' as virtual into usr
    from pg_attribute a where a.attrelid = new.member and a.attnum = new.user_attnum and a.attnum > 0 and not a.attisdropped;
  if own is null or key is null or usr is null or own.virtual or key.virtual or usr.virtual then
    raise exception 'cannot restrict % by members of %: a column is not there, or no trigger sees its value', new.rel, new.member
      using errcode = 'undefined_column';
  end if;
  if not has_table_privilege(new.member, 'select') then
    raise exception 'cannot restrict % by members of %: you may not read that', new.rel, new.member using errcode = 'insufficient_privilege';
  end if;
  if not notifyql.joins(own.atttypid, own.attcollation, key.atttypid, key.attcollation) then
    raise exception 'cannot restrict % by members of %: % and % are not of one type', new.rel, new.member, quote_ident(own.attname), quote_ident(key.attname)
      using errcode = 'datatype_mismatch', hint = 'They are both integers, both uuid, or both text or varchar of one collation.';
  end if;
  if not notifyql.comparable(usr.atttypid) then
    raise exception 'cannot restrict % by members of %: % is of type %', new.rel, new.member, quote_ident(usr.attname), format_type(usr.atttypid, null)
      using errcode = 'feature_not_supported';
  end if;
  if not notifyql.has_key(new.rel) or not notifyql.has_key(new.member) then
    raise exception 'cannot restrict % by members of %: both tables must have a primary key that is not deferrable', new.rel, new.member
      using errcode = 'object_not_in_prerequisite_state';
  end if;
  if exists (select from notifyql.policy p where p.kind = 'member' and p.rel = new.rel and p.rel_oid = new.rel and p.attnum <> new.attnum) then
    raise exception 'cannot restrict % by members of %: it is restricted so by another column', new.rel, new.member
      using errcode = 'feature_not_supported', hint = 'Call notifyql.unrestrict_from_members first.';
  end if;
  new.member_oid := new.member;
  new.member_name := (select format('%I.%I', n.nspname, c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = new.member);
  new.key_name := key.attname;
  new.user_name := usr.attname;
  return new;
end
$$;

create trigger check_member before insert or update on notifyql.policy
  for each row execute function notifyql.check_member(); -- behind check_policy, by its name

-- restrict_to_members lets an identity see only the rows whose column equals key of one of its rows of the member table: of those whose
-- user_column has its user's id or, if claim names one, a value of that claim. The member table must be watched. Who has one of the
-- roles in bypass sees all.
create function notifyql.restrict_to_members(tbl regclass, column_name name, members regclass, key name, user_column name,
                                             claim text default null, bypass text[] default '{}') returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  n smallint := (select a.attnum from pg_attribute a where a.attrelid = tbl and a.attname = column_name and a.attnum > 0 and not a.attisdropped);
  k smallint := (select a.attnum from pg_attribute a where a.attrelid = members and a.attname = key and a.attnum > 0 and not a.attisdropped);
  u smallint := (select a.attnum from pg_attribute a where a.attrelid = members and a.attname = user_column and a.attnum > 0 and not a.attisdropped);
begin
  if n is null or k is null or u is null then
    raise exception 'cannot restrict % by members of %: a column is not there', coalesce(tbl::text, 'null'), coalesce(members::text, 'null')
      using errcode = 'undefined_column';
  end if;
  delete from notifyql.policy p -- what a restored dump has left, or a table of this name that is gone
   where p.kind = 'member' and notifyql.policy_table(p.rel, p.name) = tbl and (p.rel <> tbl or p.rel_oid <> tbl);
  if not exists (select from notifyql.policy p
                  where p.rel = tbl and p.rel_oid = tbl and p.kind = 'member' and p.attnum = n
                    and p.member = members and p.member_oid = members and p.key_attnum = k and p.user_attnum = u
                    and p.claim is not distinct from restrict_to_members.claim and p.roles = bypass) then
    insert into notifyql.policy (rel, kind, attnum, member, key_attnum, user_attnum, claim, roles)
    values (tbl, 'member', n, members, k, u, claim, bypass)
    on conflict on constraint policy_pkey do update
      set member = excluded.member, key_attnum = excluded.key_attnum, user_attnum = excluded.user_attnum, claim = excluded.claim, roles = excluded.roles;
  end if;
end
$$;

create function notifyql.unrestrict_from_members(tbl regclass) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  delete from notifyql.policy p where p.kind = 'member' and (p.rel = tbl or notifyql.policy_table(p.rel, p.name) = tbl);
  return found;
end
$$;

create or replace view notifyql.restricted as
select p.rel as tbl,
       p.kind,
       notifyql.policy_column(p.rel, p.rel_oid, p.attnum, p.column_name) as column_name,
       p.claim,
       p.roles,
       case
         when notifyql.policy_table(p.rel, p.name) is null then 'the table is gone'
         when c.oid is null then 'the table was made anew, and nobody sees its rows: restrict it again'
         when p.rel <> p.rel_oid then 'the database was restored, and nobody sees the rows: restrict the table again'
         when a.attnum is null and p.kind = 'column' then 'the column is gone'
         when a.attnum is null then 'the column is gone, so that only who bypasses the policy sees rows'
         when p.kind <> 'column' and p.attnum = any (w.exclude) then 'the column is excluded, so that only who bypasses the policy sees rows'
         when p.kind = 'row' and not notifyql.comparable(a.atttypid)
           then 'the column has another type, so that only who bypasses the policy sees rows'
         when p.kind = 'member' and (k.attnum is null or u.attnum is null or p.member <> p.member_oid)
           then 'the member table or a column of it is gone, so that only who bypasses the policy sees rows'
         when p.kind = 'member' and m.id is null then 'the member table is not watched, so that only who bypasses the policy sees rows'
         when p.kind = 'member' and (p.key_attnum = any (m.exclude) or p.user_attnum = any (m.exclude))
           then 'a column of the member table is excluded, so that only who bypasses the policy sees rows'
         when p.kind = 'member' and not (notifyql.joins(a.atttypid, a.attcollation, k.atttypid, k.attcollation) and notifyql.comparable(u.atttypid))
           then 'a column has another type, so that only who bypasses the policy sees rows'
         when p.kind = 'member' and not (notifyql.has_key(p.rel) and notifyql.has_key(p.member))
           then 'a table has no primary key, so that only who bypasses the policy sees rows'
         when w.id is null then 'the table is not watched'
         else 'in force'
       end as state,
       p.member as members,
       coalesce(k.attname, p.key_name) as key,
       coalesce(u.attname, p.user_name) as user_column
  from notifyql.policy p
  left join pg_catalog.pg_class c on c.oid = p.rel
  left join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum = p.attnum and not a.attisdropped
  left join notifyql.watch w on w.rel = p.rel and w.rel = w.rel_oid and w.confirmed
  left join pg_catalog.pg_attribute k on k.attrelid = p.member and k.attnum = p.key_attnum and not k.attisdropped
  left join pg_catalog.pg_attribute u on u.attrelid = p.member and u.attnum = p.user_attnum and not u.attisdropped
  left join notifyql.watch m on m.rel = p.member and m.rel = m.rel_oid and m.confirmed;

do $$
declare
  prefix text := left(current_user, -length('owner'));
  f regprocedure;
begin
  for f in select p.oid from pg_proc p
            where p.pronamespace = 'notifyql'::regnamespace and p.proname in ('has_key', 'joins', 'restrict_to_members', 'unrestrict_from_members') loop
    execute format('grant execute on function %s to %I', f, prefix || 'watch');
  end loop;
  for f in select p.oid from pg_proc p where p.pronamespace = 'notifyql'::regnamespace and p.proname in ('has_key', 'joins') loop
    execute format('grant execute on function %s to %I', f, prefix || 'server');
  end loop;
end
$$;
