package doctor

import (
	"context"
	"fmt"

	"github.com/notifyql/notifyql/internal/pg"
)

// connections is how many a server opens at most.
func connections(o Options) int {
	if o.Bus.Stream != nil {
		return pg.RelayedConnections
	}
	return pg.Connections
}

// ours are the names of the sessions of servers and of the doctor, who come and go.
const ours = `a.application_name in ('notifyql', 'notifyql listener', 'notifyql leader', 'notifyql doctor')`

// connections looks whether there is room for a server beside all who are not servers.
func (v *visit) connections(ctx context.Context) (string, error) {
	need := v.o.Limits.Connections
	var limit, reserved, others, byRole, inDatabase, roleLimit, databaseLimit int
	err := v.conn.QueryRow(ctx, `
		select pg_catalog.current_setting('max_connections')::int,
		       pg_catalog.current_setting('superuser_reserved_connections')::int + coalesce(pg_catalog.current_setting('reserved_connections', true)::int, 0),
		       count(*) filter (where not (`+ours+`)),
		       count(*) filter (where not (`+ours+`) and a.usename = current_user), count(*) filter (where not (`+ours+`) and a.datname = current_database()),
		       (select r.rolconnlimit from pg_catalog.pg_roles r where r.rolname = current_user),
		       (select d.datconnlimit from pg_catalog.pg_database d where d.datname = current_database())
		from pg_catalog.pg_stat_activity a where a.datname is not null and coalesce(a.backend_type, 'client backend') = 'client backend'`).
		Scan(&limit, &reserved, &others, &byRole, &inDatabase, &roleLimit, &databaseLimit)
	if err != nil {
		return "", err
	}
	const why = "A server opens one connection to listen, one for the leader's place and its pool's; without them it can't catch up, or not start."
	if left := limit - reserved - others; left < need {
		v.found(Error, "connections", "", fmt.Sprintf("of %d connections %d are left, and a server needs up to %d", limit, max(left, 0), need), why,
			sql("alter system set max_connections = %d", limit+max(need-left, need)), Step{How: "restart"})
	}
	if roleLimit >= 0 && roleLimit-byRole < need && !v.super {
		v.found(Error, "connections-role", v.login, fmt.Sprintf("the login may have %d connections, and a server needs up to %d", roleLimit, need), why,
			sql("alter role %s connection limit -1", name(v.login)))
	}
	if databaseLimit >= 0 && databaseLimit-inDatabase < need {
		v.found(Error, "connections-database", v.database, fmt.Sprintf("the database may have %d connections, and a server needs up to %d", databaseLimit, need), why,
			sql("alter database %s connection limit -1", name(v.database)))
	}
	return fmt.Sprintf("of %d connections %d are left; a server needs up to %d", limit, limit-reserved-others, need), nil
}

// durability looks at what is lost in a crash.
func (v *visit) durability(ctx context.Context) (string, error) {
	var setting, value, from string
	err := v.each(ctx, `
		select s.name, s.setting, case when exists (
		         select from pg_catalog.pg_db_role_setting r, unnest(r.setconfig) c
		         where r.setrole = 0 and r.setdatabase = (select d.oid from pg_catalog.pg_database d where d.datname = current_database()) and c like s.name || '=%')
		       then 'database' else s.source end
		from pg_catalog.pg_settings s
		where s.name in ('fsync', 'full_page_writes') and s.setting = 'off' or s.name = 'synchronous_commit' and s.setting = 'off'`,
		[]any{&setting, &value, &from}, func() error {
			fix := []Step{sql("alter system set %s = on", setting), sql("select pg_reload_conf()")}
			switch from {
			case "database":
				fix = []Step{sql("alter database %s reset %s", name(v.database), setting)}
			case "user":
				fix = []Step{sql("alter role %s reset %s", name(v.login), setting)}
			case "database user":
				fix = []Step{sql("alter role %s in database %s reset %s", name(v.login), name(v.database), setting)}
			}
			if setting == "synchronous_commit" {
				v.found(Warning, "synchronous-commit", "", "synchronous_commit is off", "After a crash the last commits are gone, also those that subscribers have seen: their cursors expire.", fix...)
			} else {
				v.found(Warning, setting, "", setting+" is off", "A crash of the machine can ruin the database, and the log with it.", fix...)
			}
			return nil
		})
	return "commits are durable", err
}
