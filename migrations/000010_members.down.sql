drop view notifyql.restricted;
drop function notifyql.unrestrict_from_members(regclass);
drop function notifyql.restrict_to_members(regclass, name, regclass, name, name, text, text[]);
alter table notifyql.policy disable trigger check_policy; -- it asks for the tables' owners
delete from notifyql.policy where kind = 'member';
alter table notifyql.policy enable trigger check_policy;
drop trigger check_member on notifyql.policy;
drop function notifyql.check_member();
drop function notifyql.joins(oid, oid, oid, oid);
drop function notifyql.has_key(oid);
alter table notifyql.policy
  drop column member, drop column member_oid, drop column member_name, drop column key_attnum, drop column key_name,
  drop column user_attnum, drop column user_name,
  drop constraint policy_kind_check,
  drop constraint policy_check,
  add constraint policy_kind_check check (kind in ('row', 'column')),
  add constraint policy_check check (claim is null or claim <> '' and kind = 'row');

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
         when a.attnum is null then 'the column is gone'
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
begin
  execute format('grant select on notifyql.restricted to %I, %I', prefix || 'watch', prefix || 'server');
end
$$;
