-- The types of the watched tables' columns, and all that those are made of.
with recursive made (oid) as (
	select a.atttypid
	from notifyql.watch w
	join pg_catalog.pg_attribute a on a.attrelid = w.rel and a.attnum > 0 and not a.attisdropped
	where w.confirmed and w.rel = w.rel_oid
	union
	select e.elem from made m, lateral (
		select t.oid from pg_catalog.pg_type t where t.typarray = m.oid
		union all
		select t.typbasetype from pg_catalog.pg_type t where t.oid = m.oid and t.typtype = 'd'
		union all
		select r.rngsubtype from pg_catalog.pg_range r where r.rngtypid = m.oid
		union all -- Postgres 13 has no multiranges, and no such column
		select r.rngtypid from pg_catalog.pg_range r where (pg_catalog.to_jsonb(r) ->> 'rngmultitypid')::oid = m.oid
	) e (elem)
)
select t.oid, n.nspname, t.typname, t.typtype::text,
       coalesce(
           (select e.oid from pg_catalog.pg_type e where e.typarray = t.oid),
           nullif(t.typbasetype, 0),
           (select r.rngsubtype from pg_catalog.pg_range r where r.rngtypid = t.oid),
           (select r.rngtypid from pg_catalog.pg_range r where (pg_catalog.to_jsonb(r) ->> 'rngmultitypid')::oid = t.oid),
           0),
       exists (select from pg_catalog.pg_type e where e.typarray = t.oid),
       array(select e.enumlabel::text from pg_catalog.pg_enum e where e.enumtypid = t.oid order by e.enumsortorder)
from made m
join pg_catalog.pg_type t on t.oid = m.oid
join pg_catalog.pg_namespace n on n.oid = t.typnamespace
