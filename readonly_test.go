package notifyql_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/notifyql/notifyql"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// What is read-only publishes nothing, and everything else goes on: who is subscribed, who begins and who resumes.
func TestReadOnly(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, items)
	srv := run(t, notifyql.Config{DatabaseURL: db.URL})
	face := httptest.NewServer(srv.AdminHandler())
	defer face.Close()
	event := notifyql.Event{Channel: "c", Tenant: "a", Data: 1}
	if err := srv.Publish(t.Context(), event); err != nil {
		t.Fatal(err)
	}
	live, other := &follower{t: t}, &follower{t: t}
	live.follow(srv, "")
	defer live.leave()
	other.follow(srv, "initial: true")
	defer other.leave()
	other.want("SYNCED")
	other.leave()

	if answer := send(t, face, http.MethodPut, "Sec-Fetch-Site", "cross-site"); srv.ReadOnly() { // by a page that an operator has open
		t.Error(answer)
	}
	if answer := send(t, face, http.MethodPut); answer != `{"readOnly":true}` {
		t.Error(answer)
	}
	if err := srv.Publish(t.Context(), event); !errors.Is(err, notifyql.ErrReadOnly) {
		t.Errorf("%v", err)
	}
	db.Exec(t, `insert into items values (7, 'a', 1)`)
	live.want("INSERT 7.1")
	other.follow(srv, "") // behind its last cursor
	other.want("INSERT 7.1")
	third := &follower{t: t}
	third.follow(srv, "initial: true, where: {id: {eq: 7}}")
	defer third.leave()
	third.want("INITIAL 7.1", "SYNCED")
	if h := srv.Health(); !h.ReadOnly || h.Status != "ready" || !srv.Stats().ReadOnly {
		t.Errorf("%+v", h)
	}
	if b, err := json.Marshal(srv.Health()); err != nil || !strings.Contains(string(b), `"readOnly":true`) {
		t.Errorf("%s, %v", b, err)
	}

	if answer := send(t, face, http.MethodDelete); answer != `{"readOnly":false}` || srv.ReadOnly() {
		t.Error(answer)
	}
	if err := srv.Publish(t.Context(), event); err != nil {
		t.Error(err)
	}
}

// send switches by the operators' address.
func send(t *testing.T, face *httptest.Server, method string, header ...string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, face.URL+"/admin/read-only", nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// A server can begin so, on any bus.
func TestReadOnlyFromTheBeginning(t *testing.T) {
	t.Parallel()
	srv := run(t, notifyql.Config{Bus: notifyql.MemoryBus(), ReadOnly: true})
	event := notifyql.Event{Channel: "c", Shared: true, Data: 1}
	if err := srv.Publish(t.Context(), event); !errors.Is(err, notifyql.ErrReadOnly) {
		t.Errorf("%v", err)
	}
	srv.SetReadOnly(false)
	if err := srv.Publish(t.Context(), event); err != nil {
		t.Error(err)
	}
}
