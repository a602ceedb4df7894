-- A fingerprint of all that catalog.sql and catalog_types.sql read: whoever changes a row of a system catalog leaves the new
-- row's xmin. Comments and the parts of types are looked up only where there are some.
select count(*) || '-' || coalesce(sum(pg_catalog.hashtext(f.sort || f.oid || ' ' || coalesce(f.xmin, ''))), 0)
from (
	select 'watch' as sort, w.id::text as oid, w.xmin::text as xmin from notifyql.watch w where w.confirmed
	union all
	select 'way', w.id::text, notifyql.path(w.rel, w.via, w.tenant_attnum)
	from notifyql.watch w where (w.via).fk is not null
	union all
	select 'class', c.oid::text, c.relname || c.relnamespace
	from notifyql.watch w join pg_catalog.pg_class c on c.oid = w.rel
	union all
	select 'schema', n.oid::text, n.xmin::text
	from notifyql.watch w join pg_catalog.pg_class c on c.oid = w.rel join pg_catalog.pg_namespace n on n.oid = c.relnamespace
	union all
	select 'attribute', a.attrelid || '.' || a.attnum, a.xmin::text
	from notifyql.watch w join pg_catalog.pg_attribute a on a.attrelid = w.rel and a.attnum > 0
	union all
	select 'key', i.indexrelid::text, i.xmin::text
	from notifyql.watch w join pg_catalog.pg_index i on i.indrelid = w.rel and i.indisprimary
	union all -- for catalog_policies.sql
	select 'policy', p.rel::oid || p.kind || p.attnum, p.xmin::text from notifyql.policy p
	union all
	select 'comment', d.objoid || '.' || d.objsubid, d.xmin::text
	from notifyql.watch w join pg_catalog.pg_description d on d.objoid = w.rel and d.classoid = 'pg_catalog.pg_class'::regclass
	union all
	select 'type', t.oid::text, t.xmin::text
	from (select distinct a.atttypid as oid
	      from notifyql.watch w join pg_catalog.pg_attribute a on a.attrelid = w.rel and a.attnum > 0 and a.atttypid >= 16384) used
	join pg_catalog.pg_type t on t.oid = used.oid
	union all
	select 'enum', e.oid::text, e.xmin::text
	from pg_catalog.pg_enum e -- all of them: an enum may be deep inside another type
) f
