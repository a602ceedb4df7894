package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/notifyql/notifyql/internal/doctor"
	"github.com/notifyql/notifyql/internal/localbroker"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// tell says something to a broker by hand, and waits until it has answered everything so far.
func tell(t *testing.T, addr, format string, args ...any) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, format+"\r\nPING\r\n", args...)
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		switch line := lines.Text(); {
		case strings.HasPrefix(line, "-"):
			t.Fatal(line)
		case line == "PONG", line == "+PONG":
			return
		}
	}
	t.Fatal("no answer")
}

// Each fault of a broker is found by its id, and the fix, pasted, mends it. A person's advice is there where nothing can be pasted.
func TestDoctorOfBrokers(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, `create table orders (id bigint primary key, tenant_id text); select notifyql.watch('orders')`)
	redis, nats := localbroker.Redis, localbroker.NATS
	config := func(text string) []string {
		name := filepath.Join(t.TempDir(), "nats.conf")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return []string{"--config", name}
	}
	for _, c := range []struct {
		id, name string
		program  localbroker.Program
		args     []string
		url      string // ADDR is the broker's
		plant    string // what the broker is told
		paste    *strings.Replacer
	}{
		{"", "Redis is well", redis, nil, "redis://ADDR/1", "", nil},
		{"", "NATS is well", nats, nil, "nats://ADDR", "", nil},
		{"bus-unreachable", "nobody is there", redis, nil, "redis://127.0.0.1:1", "", strings.NewReplacer("HOST:6379", "ADDR")},
		{"bus-unreachable", "NATS is not there", nats, nil, "nats://127.0.0.1:1", "", strings.NewReplacer("HOST:4222", "ADDR")},
		{"bus-credentials", "no password", redis, []string{"--requirepass", "hush"}, "redis://ADDR", "", strings.NewReplacer("USER:PASSWORD", "default:hush")},
		{"bus-credentials", "a wrong password", redis, []string{"--requirepass", "hush"}, "redis://:wrong-secret@ADDR", "", strings.NewReplacer("USER:PASSWORD", "default:hush")},
		{"bus-credentials", "no user", nats, []string{"--user", "u", "--pass", "hush"}, "nats://ADDR", "", strings.NewReplacer("USER:PASSWORD", "u:hush")},
		{"bus-credentials", "a wrong user", nats, []string{"--user", "u", "--pass", "hush"}, "nats://u:wrong-secret@ADDR", "", strings.NewReplacer("USER:PASSWORD", "u:hush")},
		{"bus-rights", "a user of Redis without rights", redis, nil, "redis://app:wrong-secret@ADDR/1", "ACL SETUSER app on >wrong-secret", strings.NewReplacer()},
		{"bus-rights", "a user of NATS without rights", nats, config(`authorization { users = [{user: u, password: wrong-secret, permissions: {publish: ["$JS.API.INFO"]}}] }`), "nats://u:wrong-secret@ADDR", "", nil},
		{"bus-jetstream", "NATS without JetStream", nats, []string{"--jetstream=false"}, "nats://ADDR", "", strings.NewReplacer()},
		{"bus-name", "a key of that name", redis, nil, "redis://ADDR", "SET notifyql x", strings.NewReplacer()},
		{"bus-name", "a stream of that name", nats, nil, "nats://ADDR", "CONNECT {}\r\nPUB $JS.API.STREAM.CREATE.notifyql 61\r\n" +
			`{"name":"notifyql","subjects":["else"],"storage":"memory"   }`, strings.NewReplacer()},
		{"bus-record", "small messages only", nats, config("max_payload: 65536"), "nats://ADDR", "", nil},
		{"bus-stream", "a replica", redis, nil, "redis://ADDR", "REPLICAOF 127.0.0.1 1", nil},
		{"bus-stream", "no memory", redis, nil, "redis://ADDR", "CONFIG SET maxmemory 1", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			broker := localbroker.New(t, c.program, c.args...)
			if c.plant != "" {
				tell(t, broker.Addr, "%s", c.plant)
			}
			address := strings.NewReplacer("ADDR", broker.Addr)
			env := map[string]string{
				"DATABASE_URL": db.URL, "NOTIFYQL_AUTH": "jwt", "NOTIFYQL_JWT_SECRET": "a secret of more than thirty-two bytes", "NOTIFYQL_BUS": address.Replace(c.url),
			}
			look := func(want int) *doctor.Report {
				t.Helper()
				p, out, errs := world(maps.Clone(env))
				if code := p.main(t.Context(), []string{"doctor", "--json"}); code != want {
					t.Fatalf("exit %d, want %d: %s%s", code, want, out, errs)
				}
				if all := out.String() + errs.String(); strings.Contains(all, "hush") || strings.Contains(all, "wrong-secret") {
					t.Errorf("it tells a secret: %s", all)
				}
				var r doctor.Report
				if err := json.Unmarshal(out.Bytes(), &r); err != nil {
					t.Fatal(err)
				}
				return &r
			}
			if c.id == "" {
				well := fmt.Sprint(look(0).Findings)
				if !strings.Contains(well, "a record went around") || !strings.Contains(well, "a server needs up to 16") {
					t.Error(well)
				}
				return
			}
			report := look(1)
			found := report.Find(c.id)
			if len(found) != 1 || found[0].Severity != doctor.Error || len(found[0].Fix) == 0 {
				t.Fatalf("%+v", report)
			}
			if c.paste == nil {
				if found[0].Fix[0].How != "do" {
					t.Errorf("%+v", found)
				}
				return
			}
			switch step := found[0].Fix[0]; {
			case step.How == "setting":
				key, value, _ := strings.Cut(step.Text, "=")
				env[key] = address.Replace(c.paste.Replace(value))
			case strings.HasPrefix(step.Text, "redis-cli "):
				tell(t, broker.Addr, "%s", strings.TrimPrefix(step.Text, "redis-cli "))
			case step.Text == "nats-server --jetstream":
				env["NOTIFYQL_BUS"] = "nats://" + localbroker.New(t, nats).Addr
			default:
				t.Fatalf("%+v", step)
			}
			look(0)
		})
	}
}
