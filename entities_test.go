package notifyql_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/notifyql/notifyql"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

func asTenantA(context.Context, json.RawMessage, *http.Request) (notifyql.Identity, error) {
	return notifyql.Identity{Tenants: []string{"a"}}, nil
}

// A gateway that asks for rows by their keys gets those of the identity's tenants, as they stand.
func TestEntities(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, items+`;
		create table parts (tenant_id text, item int, no int, label text, primary key (item, no));
		select notifyql.watch('parts');
		insert into items values (1, 'a', 5, 'one'), (2, 'b', 6, 'two'), (3, 'a', 7, null);
		insert into parts values ('a', 1, 1, 'x'), ('a', 1, 2, 'y')`)
	srv := run(t, notifyql.Config{DatabaseURL: db.URL, Federation: true, Auth: asTenantA})
	face := httptest.NewServer(srv.Handler())
	t.Cleanup(face.Close)
	ask := `{"query":"query($r: [_Any!]!) { _entities(representations: $r) { ... on Items { id version note } ... on Parts { label } } }",
		"variables":{"r":[{"__typename":"Items","id":3},{"__typename":"Items","id":2},{"__typename":"Parts","item":1,"no":2},{"__typename":"Items","id":1},{"__typename":"Items","id":99}]}}`
	r, err := http.Post(face.URL, "application/json", strings.NewReader(ask))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	got, err := io.ReadAll(r.Body)
	want := `{"data":{"_entities":[{"id":3,"version":7,"note":null},null,{"label":"y"},{"id":1,"version":5,"note":"one"},null]}}`
	if err != nil || string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
