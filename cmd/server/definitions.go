package main

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// definitions prints what was declared about this database as SQL that declares it again: after the schema was removed and made anew, or
// in a restored copy. Who runs it must own the tables; what only an administrator may do is left out then, with a warning.
func (p *program) definitions(ctx context.Context, conn *pgx.Conn) error {
	rows, err := conn.Query(ctx, selectDefinitions)
	if err != nil {
		return err
	}
	statements, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	fmt.Fprint(p.stdout, "-- What notifyql was told: psql -v ON_ERROR_STOP=1 -f FILE\nbegin;\n")
	for _, s := range statements {
		fmt.Fprintln(p.stdout, s)
	}
	_, err = fmt.Fprintln(p.stdout, "commit;")
	return err
}

// Tables are named whole, so that the reader's search_path makes no difference. Watched first: the rows of members need it; nobody
// sees anything before the commit.
const selectDefinitions = `
with named as (
  select c.oid, format('%I.%I', n.nspname, c.relname) as name
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
), role as (
  select left(pg_catalog.pg_get_userbyid(nspowner), -length('owner')) as prefix from pg_catalog.pg_namespace where nspname = 'notifyql'
), statement (part, about, text) as (
  select 1, n.name, format('select notifyql.watch(%L, tenant_column => %L, shared => %L, exclude => %L, type_name => %L, field_name => %L, ignore_rls => %L, tenant_via => %L);',
           n.name, coalesce(w.tenant_column, 'tenant_id'), w.shared, w.exclude, w.type_name, w.field_name, w.ignore_rls, w.tenant_via)
    from notifyql.watched w join named n on n.oid = w.tbl
  union all
  select 2, n.name, case r.kind
           when 'row' then format('select notifyql.restrict(%L, %L, claim => %L, bypass => %L);', n.name, r.column_name, r.claim, r.roles)
           when 'column' then format('select notifyql.restrict_column(%L, %L, roles => %L);', n.name, r.column_name, r.roles)
           else format('select notifyql.restrict_to_members(%L, %L, %L, %L, %L, claim => %L, bypass => %L);',
                  n.name, r.column_name, m.name, r.key, r.user_column, r.claim, r.roles)
         end
    from notifyql.restricted r join named n on n.oid = r.tbl left join named m on m.oid = r.members
  union all
  select 3, '', format('do $$ begin update notifyql.setting set mode = %L, retention = %L, slot_seconds = %L; '
           'exception when insufficient_privilege then raise warning ''the settings are as before: an administrator has to set them''; end $$;',
           mode, retention, slot_seconds)
    from notifyql.setting
   where (mode, retention, slot_seconds) is distinct from ('auto', '24 hours'::interval, 10800)
  union all
  select 4, m.rolname, format('do $$ begin execute format(''grant %%I to %%I'', (select left(pg_get_userbyid(nspowner), -5) || %L from pg_namespace where nspname = ''notifyql''), %L); '
           'exception when insufficient_privilege then raise warning ''%s has no right to this: an administrator has to grant it''; end $$;',
           kind, m.rolname, replace(replace(m.rolname, '''', ''''''), '%', '%%'))
    from role, (values ('server'), ('watch')) k (kind), pg_catalog.pg_roles g
    join pg_catalog.pg_auth_members am on am.roleid = g.oid join pg_catalog.pg_roles m on m.oid = am.member
   where g.rolname = role.prefix || kind
)
select text from statement order by part, about, text`
