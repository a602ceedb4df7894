package deploy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/notifyql/notifyql/internal/localpg"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m, nil) }

const repository = "../.."

// image builds the binary by the Dockerfile's own steps, in a folder that has what Docker would send there.
var image = sync.OnceValues(func() (binary string, err error) {
	text, err := os.ReadFile(filepath.Join(repository, "Dockerfile"))
	if err != nil {
		return "", err
	}
	base, err := filepath.Abs(filepath.Join(repository, ".cache", "deploy"))
	if err != nil {
		return "", err
	}
	src, out := filepath.Join(base, "src"), filepath.Join(base, "notifyql") // always there, so that Go's cache knows it
	if err := os.RemoveAll(src); err != nil {
		return "", err
	}
	if err := os.MkdirAll(src, 0o755); err != nil {
		return "", err
	}
	env := append(os.Environ(), "TARGETOS="+runtime.GOOS, "TARGETARCH="+runtime.GOARCH)
	ran := 0
	for _, line := range lines(string(text)) {
		word, rest, _ := strings.Cut(line, " ")
		switch {
		case line == "FROM scratch":
			if ran < 2 {
				return "", fmt.Errorf("only %d commands were run", ran)
			}
			return out, nil
		case word == "ENV":
			env = append(env, rest)
		case word == "COPY":
			files := strings.Fields(rest)
			for _, f := range files[:len(files)-1] {
				if err := copyInto(src, f, files[len(files)-1]); err != nil {
					return "", err
				}
			}
		case word == "RUN":
			command := strings.ReplaceAll(regexp.MustCompile(`--mount=\S+ `).ReplaceAllString(rest, ""), "-o /notifyql", "-o "+out)
			cmd := exec.Command("sh", "-c", command)
			cmd.Dir, cmd.Env = src, env
			if said, err := cmd.CombinedOutput(); err != nil {
				return "", fmt.Errorf("%s: %w\n%s", command, err, said)
			}
			ran++
		case word != "FROM" && word != "WORKDIR" && word != "ARG":
			return "", fmt.Errorf("a step that this test does not know: %s", line)
		}
	}
	return "", errors.New("there is no image")
})

// copyInto is COPY: a file, or the whole folder but for what .dockerignore names.
func copyInto(src, what, where string) error {
	if what != "." {
		b, err := os.ReadFile(filepath.Join(repository, what))
		if err != nil {
			return err
		}
		to := filepath.Join(src, where)
		if strings.HasSuffix(where, "/") {
			to = filepath.Join(to, filepath.Base(what))
		}
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		return os.WriteFile(to, b, 0o644)
	}
	text, err := os.ReadFile(filepath.Join(repository, ".dockerignore"))
	if err != nil {
		return err
	}
	patterns := strings.Fields(string(text))
	return filepath.WalkDir(repository, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(repository, name)
		if err != nil || rel == "." {
			return err
		}
		if ignored(patterns, filepath.ToSlash(rel)) {
			if e.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		to := filepath.Join(src, rel)
		switch {
		case e.IsDir():
			return os.MkdirAll(to, 0o755)
		case !e.Type().IsRegular():
			return nil
		}
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		return os.WriteFile(to, b, 0o644)
	})
}

func ignored(patterns []string, rel string) bool {
	for _, p := range patterns {
		name := rel
		if any, ok := strings.CutPrefix(p, "**/"); ok {
			p, name = any, path.Base(rel)
		}
		if ok, _ := path.Match(p, name); ok {
			return true
		}
	}
	return false
}

// stack is docker-compose.yml run without Docker: each service is a process with the environment that the file gives it. What only exists
// in compose's network is put here: the name of Postgres' host, and ports that are free.
type stack struct {
	t      *testing.T
	file   compose
	vars   map[string]string // what the user's shell, or .env, sets
	dotenv map[string]string
	binary string
	db     *localpg.Server // postgres, its volume included
	port   string          // the server's
	log    strings.Builder
	mu     sync.Mutex
	server *exec.Cmd
	ended  chan error
}

func (s *stack) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.Write(b)
}

// fill is compose's interpolation.
func (s *stack) fill(text string) string {
	return interpolation.ReplaceAllStringFunc(text, func(v string) string {
		m := interpolation.FindStringSubmatch(v)
		if set := s.vars[m[1]]; set != "" {
			return set
		}
		return m[3]
	})
}

// here puts what only the network of compose has to where it is.
func (s *stack) here(text string) string {
	text = strings.ReplaceAll(text, "@postgres:5432/", "@127.0.0.1:"+strconv.Itoa(s.db.Port())+"/")
	if text == ":8000" {
		return "127.0.0.1:" + s.port
	}
	return text
}

// environment is a service's, and nothing of ours.
func (s *stack) environment(name string) []string {
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=/", "PGPORT=" + strconv.Itoa(s.db.Port())}
	if len(s.file.Services[name].EnvFile) > 0 {
		for k, v := range s.dotenv {
			env = append(env, k+"="+v)
		}
	}
	for k, v := range s.file.Services[name].Environment { // stands before the file
		env = append(env, k+"="+s.here(s.fill(v)))
	}
	return env
}

// command is one of a service's, as it stands in the file.
func (s *stack) command(ctx context.Context, name string, args []string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = s.environment(name), s.t.TempDir(), s, s
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

// up starts the services, each when those that it depends on are as it says.
func (s *stack) up() {
	s.t.Helper()
	state := map[string]string{}
	for len(state) < len(s.file.Services) {
		began := len(state)
		for name, svc := range s.file.Services {
			if state[name] != "" || !ready(svc, state) {
				continue
			}
			state[name] = s.start(name, svc)
		}
		if len(state) == began {
			s.t.Fatalf("the services wait for each other: %v", state)
		}
	}
}

func ready(svc service, state map[string]string) bool {
	for on, how := range svc.DependsOn {
		if state[on] != how.Condition {
			return false
		}
	}
	return true
}

// start starts a service and returns the condition that it has reached.
func (s *stack) start(name string, svc service) string {
	s.t.Helper()
	switch {
	case name == "postgres":
		s.postgres(svc)
	case svc.Restart == "no":
		if err := s.command(s.t.Context(), name, append([]string{s.binary}, svc.Command...)).Run(); err != nil {
			s.t.Fatalf("%s: %v\n%s", name, err, s.log.String())
		}
		return "service_completed_successfully"
	default:
		s.server, s.ended = s.command(context.Background(), name, append([]string{s.binary}, svc.Command...)), make(chan error, 1)
		if err := s.server.Start(); err != nil {
			s.t.Fatal(err)
		}
		server, ended := s.server, s.ended
		go func() { ended <- server.Wait() }()
	}
	s.healthy(name, svc)
	return "service_healthy"
}

// healthy runs a service's health check until it succeeds, as often as the file allows, and sooner.
func (s *stack) healthy(name string, svc service) {
	s.t.Helper()
	test := slices.Clone(svc.HealthCheck.Test[1:])
	if test[0] == "/notifyql" {
		test[0] = s.binary
	}
	deadline := time.Now().Add(time.Duration(svc.HealthCheck.Retries)*duration(s.t, name, svc.HealthCheck.Interval) + time.Minute)
	tick := time.NewTicker(50 * time.Millisecond) // a health check is asked again and again, here more often than there
	defer tick.Stop()
	for {
		err := s.command(s.t.Context(), name, test).Run()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%s is not healthy: %v: %v\n%s", name, test, err, s.log.String())
		}
		<-tick.C
	}
}

// postgres does what the image does with its variables when its volume is empty; later only starts it.
func (s *stack) postgres(svc service) {
	s.t.Helper()
	if s.db.PID() != 0 {
		return
	}
	if err := s.db.Resume(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
}

// initialize is the first start of the image.
func (s *stack) initialize(svc service) {
	t := s.t
	t.Helper()
	user, password := svc.Environment["POSTGRES_USER"], s.fill(svc.Environment["POSTGRES_PASSWORD"])
	conn, err := pgx.Connect(t.Context(), s.db.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context()) //nolint:errcheck // it has served
	hba := filepath.Join(s.db.Dir(), "data", "pg_hba.conf")
	rules, err := os.ReadFile(hba)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(hba, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(append([]byte("host all "+user+" 127.0.0.1/32 scram-sha-256\n"), rules...)); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{
		"set password_encryption = 'scram-sha-256'", "create role " + user + " superuser login password '" + password + "'",
		"create database " + svc.Environment["POSTGRES_DB"] + " owner " + user, "select pg_reload_conf()",
	} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
}

// stop ends the server as Docker would, within its grace.
func (s *stack) stop() {
	s.t.Helper()
	s.server.Process.Signal(syscall.SIGTERM) //nolint:errcheck // it may have ended
	select {
	case err := <-s.ended:
		if err != nil {
			s.t.Errorf("the server ended with %v", err)
		}
	case <-time.After(duration(s.t, "stop_grace_period", s.file.Services["server"].StopGracePeriod)):
		s.t.Error("the server did not end within its grace: Docker would have killed it")
		s.server.Process.Kill() //nolint:errcheck // as above
		<-s.ended
	}
}

// newStack prepares what `docker compose up` is run with.
func newStack(t *testing.T, vars, dotenv map[string]string) *stack {
	binary, err := image()
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	ln.Close() //nolint:errcheck // the server takes it
	s := &stack{t: t, file: readCompose(t), vars: vars, dotenv: dotenv, binary: binary, port: port, db: pgtest.Server(t, localpg.Options{})}
	s.initialize(s.file.Services["postgres"])
	if err := s.db.Shutdown(t.Context(), localpg.Fast); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if s.server != nil && s.server.ProcessState == nil {
			s.server.Process.Kill() //nolint:errcheck // it may have ended
		}
		if t.Failed() {
			t.Log(s.log.String())
		}
	})
	return s
}

// changes subscribes over HTTP, as a client of the published port would, and gives what comes.
func (s *stack) changes(query string) (next func() string) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, "http://127.0.0.1:"+s.port+"/graphql",
		strings.NewReader(`{"query":"`+query+`","extensions":{"connectionParams":{"tenantId":"acme"}}}`))
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "text/event-stream")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { resp.Body.Close() })
	in := bufio.NewReader(resp.Body)
	return func() string {
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				s.t.Fatalf("%v\n%s", err, s.log.String())
			}
			if data, ok := strings.CutPrefix(line, "data: "); ok {
				return strings.TrimSpace(data)
			}
		}
	}
}

// `docker compose up`, down and up again, without Docker: the same commands, variables, health checks and order, the binary built as the
// image's, and a row that a client sees.
func TestComposeRuns(t *testing.T) {
	t.Parallel()
	s := newStack(t, map[string]string{"POSTGRES_PASSWORD": "of-this-test"}, map[string]string{"NOTIFYQL_LOG_FORMAT": "json", "NOTIFYQL_ADDR": ":1"})
	s.up()
	conf, err := pgx.ParseConfig(s.here(s.fill(s.file.Services["server"].Environment["DATABASE_URL"])))
	if err != nil {
		t.Fatal(err)
	}
	sql := func(statements ...string) {
		t.Helper()
		conn, err := pgx.ConnectConfig(t.Context(), conf)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(t.Context()) //nolint:errcheck // it has served
		for _, q := range statements {
			if _, err := conn.Exec(t.Context(), q); err != nil {
				t.Fatal(err)
			}
		}
	}
	wrong := conf.Copy()
	wrong.Password = "another"
	if _, err := pgx.ConnectConfig(t.Context(), wrong); err == nil {
		t.Fatal("Postgres takes any password, so that it is not known whether the file's was used")
	}
	sql(`create table orders (id int primary key, tenant_id text)`, `select notifyql.watch('orders')`)
	subscribe := `subscription { ordersChanged(initial: true) { kind new { id } } }`
	var next func() string
	for next == nil || strings.Contains(next(), "errors") { // until the server has seen the table
		next = s.changes(subscribe)
	}
	sql(`insert into orders values (1, 'acme')`)
	if got, want := next(), `{"data":{"ordersChanged":{"kind":"INSERT","new":{"id":1}}}}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if log := s.log.String(); !strings.Contains(log, `"msg":"serving"`) {
		t.Errorf("what .env sets does not reach the server: %s", log)
	}

	// The server is killed, and restarted as the file has it.
	s.server.Process.Kill() //nolint:errcheck // it runs
	<-s.ended
	if s.file.Services["server"].Restart != "unless-stopped" {
		t.Error("the server is not restarted")
	}
	s.start("server", s.file.Services["server"])

	// Down, and up again: what the volume has is there, and migrating does nothing.
	s.stop()
	if err := s.db.Shutdown(t.Context(), localpg.Fast); err != nil {
		t.Fatal(err)
	}
	s.up()
	next = s.changes(subscribe)
	if got, want := next(), `{"data":{"ordersChanged":{"kind":"INITIAL","new":{"id":1}}}}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	s.stop()
}
