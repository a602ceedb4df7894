package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/notifyql/notifyql/internal/doctor"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// The command says what it finds, to people and to programs, and by its exit code whether there are errors.
func TestDoctor(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, `create table orders (id bigint primary key, tenant_id text); select notifyql.watch('orders')`)
	auth, secret := "jwt", "a secret of more than thirty-two bytes"
	look := func(code int, args ...string) string {
		t.Helper()
		p, out, errs := world(map[string]string{"DATABASE_URL": db.URL, "NOTIFYQL_AUTH": auth, "NOTIFYQL_JWT_SECRET": secret})
		if got := p.main(t.Context(), append([]string{"doctor"}, args...)); got != code {
			t.Errorf("exit %d, want %d: %s%s", got, code, out, errs)
		}
		return out.String()
	}
	if said := look(0); !strings.Contains(said, "1 table watched") || !strings.Contains(said, "0 errors") {
		t.Error(said)
	}
	db.Exec(t, `alter table orders disable trigger " notifyql"`)
	fix := `alter table only public.orders enable always trigger " notifyql"`
	if said := look(1); !strings.Contains(said, "error    trigger-disabled") || !strings.Contains(said, "fix: "+fix+";\n") {
		t.Error(said)
	}
	var report doctor.Report
	if err := json.Unmarshal([]byte(look(1, "--json")), &report); err != nil {
		t.Fatal(err)
	}
	if found := report.Find("trigger-disabled"); report.Errors != 1 || len(found) != 1 || found[0].Severity != doctor.Error || found[0].Fix[0] != (doctor.Step{How: "sql", Text: fix}) {
		t.Errorf("%+v", report)
	}
	db.Exec(t, fix)
	if said := look(0); strings.Contains(said, "auth") || strings.Contains(said, "names") {
		t.Error(said)
	}

	db.Exec(t, `create table "näme" (id int primary key, "a b" text, a_b text); select notifyql.watch('"näme"', shared => true)`)
	if said := look(0); !strings.Contains(said, "warning  names") {
		t.Error(said)
	}
	auth = "trust"
	if said := look(1); !strings.Contains(said, "error    settings") || !strings.Contains(said, "NOTIFYQL_AUTH does not ask for") {
		t.Error(said)
	}
	secret = ""
	if said := look(0); !strings.Contains(said, "warning  auth") || !strings.Contains(said, "set NOTIFYQL_AUTH=jwt") {
		t.Error(said)
	}
	auth = ""
	if said := look(0); !strings.Contains(said, "Every client is refused") {
		t.Error(said)
	}
}
