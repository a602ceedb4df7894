-- The watched tables' policies. One of which it is not known any more what it is about (the database was restored, the table was made
-- anew) is one of rows that lets nobody through: it has no column and no roles. One of a column that is gone is about the column
-- that has its name now, if there is one.
select w.id, case when k.known then p.kind else 'row' end, coalesce(a.attnum, 0), coalesce(p.claim, ''), case when k.known then p.roles else '{}' end
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
where w.confirmed and w.rel = w.rel_oid and not (k.known and p.kind = 'column' and a.attnum is null)
order by w.id, 2, 3, p.claim, p.rel, p.attnum
