-- The watched tables' policies. One of which it is not known any more what it is about (the database was restored, the table was made
-- anew) is one of rows that lets nobody through: it has no column and no roles. One of a column that is gone is about the column
-- that has its name now, if there is one.
select w.id, case when k.known then p.kind else 'row' end, coalesce(a.attnum, 0), coalesce(p.claim, ''), case when k.known then p.roles else '{}' end,
       m.id, m.key, m.usr
from notifyql.watch w
join pg_catalog.pg_class c on c.oid = w.rel
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
join notifyql.policy p
  on p.rel = c.oid
  or p.name = pg_catalog.format('%I.%I', n.nspname, c.relname) and not exists (select from pg_catalog.pg_class g where g.oid = p.rel)
cross join lateral (select p.rel = c.oid and p.rel_oid = c.oid) k (known)
left join lateral (
	select a.attnum
	from pg_catalog.pg_attribute a
	where k.known and a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
	  and (a.attnum = p.attnum or p.kind = 'column' and a.attname = p.column_name)
	order by a.attnum <> p.attnum
	limit 1
) a on true
left join lateral ( -- the member table, if all is there that it takes
	select mw.id, p.key_attnum as key, p.user_attnum as usr
	from notifyql.watch mw
	where k.known and mw.rel = p.member and p.member = p.member_oid and mw.confirmed and mw.rel = mw.rel_oid
	  and exists (select from pg_catalog.pg_attribute b where b.attrelid = p.member and b.attnum = p.key_attnum and not b.attisdropped)
	  and exists (select from pg_catalog.pg_attribute b where b.attrelid = p.member and b.attnum = p.user_attnum and not b.attisdropped)
	  and notifyql.has_key(c.oid) and notifyql.has_key(p.member)
) m on true
where w.confirmed and w.rel = w.rel_oid and not (k.known and p.kind = 'column' and a.attnum is null)
order by w.id, 2, 3, p.claim, p.rel, p.attnum
