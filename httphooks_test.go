package notifyql_test

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/notifyql/notifyql"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// Services of one's own are told who connects, subscribes and goes, and refuse or narrow that. The names in it do not change.
func TestHTTPHooks(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, `create table orders (id int primary key, tenant_id text, owner text); select notifyql.watch('orders')`)
	var d diary
	type told struct {
		Event      string
		Connection struct {
			ID, RemoteAddr string
			Identity       struct {
				UserID  string
				Tenants []string
			}
		}
		Subscription struct {
			ID, Field, Table string
			Args             json.RawMessage
		}
	}
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var e told
		if err != nil || json.Unmarshal(body, &e) != nil || r.Method != http.MethodPost || r.URL.Path != "/"+e.Event || len(r.Cookies()) > 0 {
			t.Errorf("%s %s %s: %v", r.Method, r.URL, body, err)
		}
		d.write("%s %s of %v %s %s", e.Event, e.Connection.Identity.UserID, e.Connection.Identity.Tenants, e.Subscription.Table, bytes.TrimSpace(e.Subscription.Args))
		switch {
		case e.Event == "connect" && e.Connection.Identity.UserID == "banned", e.Subscription.ID == "no":
			w.WriteHeader(http.StatusForbidden)
		case e.Subscription.ID == "broken":
			io.WriteString(w, `{"filter":{"owner":{"eq":"u"}}}`) //nolint:errcheck // a test
		case e.Event == "subscribe":
			io.WriteString(w, `{"where":{"owner":{"eq":"`+e.Connection.Identity.UserID+`"}}}`) //nolint:errcheck // a test
		default:
			w.WriteHeader(http.StatusNoContent)
		}
	}))
	t.Cleanup(hook.Close)
	var log locked
	c := notifyql.Config{DatabaseURL: db.URL, Auth: notifyql.Trust(), Logger: slog.New(slog.NewTextHandler(&log, nil))}
	if err := (notifyql.HTTPHooks{OnConnect: hook.URL + "/connect", OnSubscribe: hook.URL + "/subscribe", OnDisconnect: hook.URL + "/disconnect", Timeout: time.Minute}).Apply(&c); err != nil {
		t.Fatal(err)
	}
	srv := run(t, c)
	url := face(t, srv)
	banned := dial(t, url)
	banned.init(`{"userId":"banned"}`)
	banned.wantClose(4403, "Forbidden")
	client := connect(t, url, `{"userId":"u","tenantId":"acme"}`, "Cookie", "session=1")
	client.subscribe("no", `subscription { ordersChanged { kind } }`)
	client.want(`{"id":"no","type":"error","payload":` + notAllowed + `}`)
	client.subscribe("broken", `subscription { ordersChanged { kind } }`)
	client.want(`{"id":"broken","type":"error","payload":` + notAllowed + `}`)
	client.subscribe("1", `subscription { ordersChanged(where: {id: {gt: 0}}, initial: true) { kind new { id } } }`)
	client.want(`{"id":"1","type":"next","payload":{"data":{"ordersChanged":{"kind":"SYNCED","new":null}}}}`)
	db.Exec(t, `insert into orders values (1, 'acme', 'another'), (2, 'acme', 'u'), (3, 'globex', 'u')`)
	client.want(`{"id":"1","type":"next","payload":{"data":{"ordersChanged":{"kind":"INSERT","new":{"id":2}}}}}`)
	client.CloseNow() //nolint:errcheck // it has served
	const want = `connect banned of []  ; connect u of [acme]  ; subscribe u of [acme] public.orders {"initial":false}; subscribe u of [acme] public.orders {"initial":false}; ` +
		`subscribe u of [acme] public.orders {"initial":true,"where":{"id":{"gt":0}}}; disconnect u of [acme]  `
	eventually(t, "the last hook", func() bool { return strings.HasSuffix(d.text(), "disconnect u of [acme]  ") })
	if got := d.text(); got != want {
		t.Errorf("told was\n%s, want\n%s", got, want)
	}
	if !strings.Contains(log.String(), "level=WARN") || strings.Contains(log.String(), hook.URL) {
		t.Errorf("logged was %s", log.String())
	}

	// Nobody there: nobody is let in.
	hook.Close()
	late := dial(t, url)
	late.init(`{"userId":"u","tenantId":"acme"}`)
	late.wantClose(4403, "Forbidden")
	if err := (notifyql.HTTPHooks{OnSubscribe: "hunter2"}).Apply(&c); err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "OnSubscribe") {
		t.Errorf("got %v", err)
	}
}
