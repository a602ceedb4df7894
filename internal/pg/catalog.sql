-- The watched tables with the columns that subscribers can see, a row for each column, and one without a column for a
-- table that has none.
select w.id, c.oid, n.nspname, c.relname, coalesce(pg_catalog.obj_description(c.oid, 'pg_class'), ''),
       case when (w.via).fk is null then coalesce(tenant.attname, '')
            when notifyql.path(w.rel, w.via, w.tenant_attnum) = (w.via).path then (w.via).path else '' end,
       w.shared, coalesce(w.type_name, ''), coalesce(w.field_name, ''),
       a.attnum, a.attname, coalesce(pg_catalog.col_description(c.oid, a.attnum), ''), a.attnotnull, a.atttypid,
       -- the place in the primary key; a key that is not wholly seen is none
       (select k.place
        from pg_catalog.pg_index i, unnest(i.indkey::int2[]) with ordinality as k (attnum, place)
        where i.indrelid = c.oid and i.indisprimary and k.attnum = a.attnum and not i.indkey::int2[] && w.exclude)
from notifyql.watch w
join pg_catalog.pg_class c on c.oid = w.rel
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
left join pg_catalog.pg_attribute tenant
       on tenant.attrelid = c.oid and tenant.attnum = w.tenant_attnum and tenant.attname = w.tenant_column
      and not tenant.attisdropped and not w.shared and (w.via).fk is null
left join pg_catalog.pg_attribute a
       on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and not a.attnum = any(w.exclude)
      and a.attgenerated <> 'v' -- null in triggers, something else in a select
where w.confirmed and w.rel = w.rel_oid -- a restored dump's is not watched any more
order by w.id, a.attnum
