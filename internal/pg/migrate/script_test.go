package migrate_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/notifyql/notifyql/internal/localpg/pgtest"
	"github.com/notifyql/notifyql/internal/pg/migrate"
)

// The printed script does what Up does, as a superuser and as a role that may create roles and owns the database; the
// login that it names may run the server.
func TestTheScriptDoesWhatUpDoes(t *testing.T) {
	t.Parallel()
	for _, attributes := range []string{"superuser", "createrole"} {
		t.Run(attributes, func(t *testing.T) {
			t.Parallel()
			db := pgtest.Bare(t)
			admin, app := db.Role(t, attributes), db.Role(t, "")
			db.Exec(t, `alter database `+db.Name+` owner to `+admin)
			script, err := migrate.SQL(app)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := db.Conn(t, admin).Exec(t.Context(), script, pgx.QueryExecModeSimpleProtocol); err != nil {
				t.Fatal(err)
			}
			if v, err := migrate.Version(t.Context(), db.URLAs(admin)); err != nil || v != migrate.Latest() {
				t.Errorf("version %d (%v)", v, err)
			}
			if err := migrate.Check(t.Context(), db.Conn(t, app)); err != nil {
				t.Errorf("the login may not run the server: %v", err)
			}
			if err := migrate.Up(t.Context(), db.URLAs(admin)); err != nil {
				t.Errorf("up after the script: %v", err)
			}
			if _, err := db.Conn(t, admin).Exec(t.Context(), script, pgx.QueryExecModeSimpleProtocol); err == nil {
				t.Error("the script ran twice")
			}
			if err := migrate.Down(context.WithoutCancel(t.Context()), db.URLAs(admin), nil); err != nil {
				t.Errorf("down: %v", err)
			}
		})
	}
}
