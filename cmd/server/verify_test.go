package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/notifyql/notifyql/internal/localpg/pgtest"
	"github.com/notifyql/notifyql/internal/pg"
)

// The command says what it has verified, and by its exit code whether there is a difference.
func TestVerifyCommand(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	verify := func(code int, args ...string) (out, errs string) {
		t.Helper()
		p, o, e := world(map[string]string{"DATABASE_URL": db.URL})
		if got := p.main(t.Context(), append([]string{"verify", "--for", "0s"}, args...)); got != code {
			t.Errorf("exit %d, want %d: %s%s", got, code, o, e)
		}
		return o.String(), e.String()
	}
	if _, errs := verify(1); !strings.Contains(errs, "nothing to verify") {
		t.Error(errs)
	}
	db.Exec(t, `create table orders (id bigint primary key, tenant_id text); select notifyql.watch('orders'); insert into orders values (1, 'a')`)
	db.Exec(t, `create table items (id bigint primary key, tenant_id text); select notifyql.watch('items')`)
	if out, _ := verify(0); !strings.Contains(out, `ok         "public"."orders": 1 rows, 0 changes meanwhile`) || !strings.Contains(out, "items") {
		t.Error(out)
	}
	if out, _ := verify(0, "orders", "--json"); !strings.Contains(out, `"rows": 1`) || strings.Contains(out, "items") {
		t.Error(out)
	}
	if _, errs := verify(1, "nowhere"); !strings.Contains(errs, "nowhere is not watched") {
		t.Error(errs)
	}
	var reports []pg.Verified
	out, _ := verify(0, "--json")
	if err := json.Unmarshal([]byte(out), &reports); err != nil || len(reports) != 2 {
		t.Errorf("%s, %v", out, err)
	}
	p, o, _ := world(nil)
	p.verified(pg.Verified{Table: "t", Differences: []pg.Difference{{Kind: "extra", Key: `{"id":1}`}}, More: true})
	p.verified(pg.Verified{Table: "u", Problem: "why"})
	if want := "extra      t {\"id\":1}\n…          t: there are more\nunknown    u: why\n"; o.String() != want {
		t.Errorf("%q", o)
	}
}
