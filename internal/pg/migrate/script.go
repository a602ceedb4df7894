package migrate

import (
	"fmt"
	"io/fs"
	"strings"

	"github.com/notifyql/notifyql/migrations"
)

// SQL returns all migrations up as one script, for an administrator to run where the server's login may not migrate. It
// does what Up does on a database without the schema; on one that has it, it fails and changes nothing. If login is not
// empty, that role may then run the server, and watch tables that it owns.
func SQL(login string) (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "-- notifyql, version %d. Run it in the application's database as a superuser, or as a role with CREATEROLE that may\n"+
		"-- create a schema there: psql -v ON_ERROR_STOP=1 -f FILE\n\nbegin;\ncreate schema notifyql;\n", Latest())
	b.WriteString("create table notifyql.migrations (version bigint not null primary key, dirty boolean not null);\n")
	files, err := fs.Glob(migrations.FS, "*.up.sql") // sorted
	if err != nil {
		return "", err
	}
	for _, name := range files {
		body, err := fs.ReadFile(migrations.FS, name)
		if err != nil {
			return "", err
		}
		var v int
		if _, err := fmt.Sscanf(name, "%06d_", &v); err != nil {
			return "", fmt.Errorf("the migration %s has no number: %w", name, err)
		}
		fmt.Fprintf(&b, "\n-- version %d\n", v)
		b.WriteString(wrap(string(body), v))
	}
	if login != "" {
		fmt.Fprintf(&b, grantLogin, "'"+strings.ReplaceAll(login, "'", "''")+"'")
	}
	b.WriteString("commit;\n")
	return b.String(), nil
}

// grantLogin lets a role run the server and watch its own tables.
const grantLogin = `
do $grant_login$
declare
  prefix text := (select left(pg_get_userbyid(nspowner), -length('owner')) from pg_namespace where nspname = 'notifyql');
begin
  execute format('grant %%I, %%I to %%I', prefix || 'server', prefix || 'watch', %s);
end
$grant_login$;
`
