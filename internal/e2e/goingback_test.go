package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/notifyql/notifyql/internal/localpg"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// The runbook's section, whose commands are run here as they stand.
const runbook = "Going back"

// blocks are the section's commands, by their first line, which is a comment.
func blocks(t *testing.T) map[string]string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(root(), "docs", "operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(page), "\n## "+runbook+"\n")
	if !found {
		t.Fatalf("docs/operations.md has no section %q", runbook)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	all := map[string]string{}
	for _, m := range regexp.MustCompile("(?s)```sh\n# (.*?)\n(.*?)```").FindAllStringSubmatch(section, -1) {
		all[m[1]] = m[2]
	}
	return all
}

// versionsBuilt builds two programs: the previous one is of the same sources but for its version and the last migration, which it does not
// know. There is no older release yet.
var versionsBuilt = sync.OnceValues(func() (dir string, err error) {
	dir = filepath.Join(root(), ".cache", "e2e", "versions")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	files, err := filepath.Glob(filepath.Join(root(), "migrations", "*.sql"))
	if err != nil {
		return "", err
	}
	last := filepath.Base(files[len(files)-1])[:len("000000_")]
	without := map[string]string{}
	for _, f := range files {
		if strings.HasPrefix(filepath.Base(f), last) {
			without[f] = "" // is not there
		}
	}
	overlay, err := json.Marshal(map[string]any{"Replace": without})
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o644); err != nil {
		return "", err
	}
	for version, more := range map[string][]string{"0.1.0": {"-overlay", filepath.Join(dir, "overlay.json")}, "0.2.0": nil} {
		args := append([]string{"build", "-o", filepath.Join(dir, "notifyql-"+version), "-trimpath", "-buildvcs=false", "-ldflags", "-X github.com/notifyql/notifyql.version=" + version}, more...)
		cmd := exec.Command("go", append(args, "./cmd/server")...)
		cmd.Dir, cmd.Env = root(), append(os.Environ(), "CGO_ENABLED=0") // as make build, whose cache serves
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("build: %w\n%s", err, out)
		}
	}
	return dir, nil
})

// host is a machine that the runbook is for: a folder with the two versions, and a shell in it.
type host struct {
	t     *testing.T
	dir   string
	addr  string
	steps map[string]string
	with  *strings.Replacer // of what is this machine's
	in    io.Writer
	out   *bufio.Reader
}

// newHost makes one whose settings are for the database.
func newHost(t *testing.T, url string, replace ...string) *host {
	t.Helper()
	built, err := versionsBuilt()
	if err != nil {
		t.Fatal(err)
	}
	h := &host{t: t, dir: t.TempDir(), addr: freeAddr(t), steps: blocks(t), with: strings.NewReplacer(replace...)}
	for _, version := range []string{"0.1.0", "0.2.0"} {
		if err := os.Symlink(filepath.Join(built, "notifyql-"+version), filepath.Join(h.dir, "notifyql-"+version)); err != nil {
			t.Fatal(err)
		}
	}
	h.write(".env", "DATABASE_URL='"+url+"'\nNOTIFYQL_ADDR="+h.addr+"\nNOTIFYQL_AUTH=trust\n")
	shell := exec.Command("sh", "-eu")
	shell.Dir = h.dir
	shell.Env = append(os.Environ(), "PATH="+path(t))
	shell.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	in, err := shell.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := shell.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	shell.Stderr = shell.Stdout
	if err := shell.Start(); err != nil {
		t.Fatal(err)
	}
	h.in, h.out = in, bufio.NewReader(out)
	t.Cleanup(func() {
		syscall.Kill(-shell.Process.Pid, syscall.SIGKILL) //nolint:errcheck // the shell and its servers
		shell.Wait()                                      //nolint:errcheck // it was killed
		if t.Failed() {
			for _, name := range []string{"notifyql.log", "new.log"} {
				log, _ := os.ReadFile(filepath.Join(h.dir, name))
				t.Logf("%s: %s", name, log)
			}
		}
	})
	return h
}

func (h *host) write(name, content string) {
	h.t.Helper()
	if err := os.WriteFile(filepath.Join(h.dir, name), []byte(content), 0o644); err != nil {
		h.t.Fatal(err)
	}
}

// path has the programs of Postgres.
func path(t *testing.T) string {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/pg_dump") // the pattern is well-formed
	dirs := os.Getenv("PATH")
	for _, f := range found {
		dirs = filepath.Dir(f) + ":" + dirs
	}
	return dirs
}

// step runs a step of the runbook, and returns what it said.
func (h *host) step(title string) string {
	h.t.Helper()
	commands, ok := h.steps[title]
	if !ok {
		h.t.Fatalf("the runbook has no step %q", title)
	}
	return h.sh(h.with.Replace(commands))
}

// sh runs commands in the shell, to their end.
func (h *host) sh(commands string) string {
	h.t.Helper()
	if _, err := io.WriteString(h.in, commands+"\necho; echo '=done'\n"); err != nil {
		h.t.Fatal(err)
	}
	var said strings.Builder
	for {
		line, err := h.out.ReadString('\n')
		if line == "=done\n" {
			return said.String()
		}
		said.WriteString(line)
		if err != nil {
			h.t.Fatalf("the shell ended at\n%s\nit said\n%s", commands, said.String())
		}
	}
}

// runs checks which version serves.
func (h *host) runs(version string) {
	h.t.Helper()
	if said := h.sh("./notifyql health"); !strings.Contains(said, `"version":"`+version+`"`) || !strings.Contains(said, `"status":"ready"`) {
		h.t.Fatalf("want version %s, ready: %s", version, said)
	}
}

// counting writes until it is stopped, which gives how many updates were committed.
func counting(t *testing.T, db *pgtest.DB) (stop func() int) {
	t.Helper()
	ended, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		rate := time.NewTicker(time.Millisecond) // others use this machine
		defer rate.Stop()
		for n := 0; ; n++ {
			select {
			case <-ended:
				return
			case <-rate.C:
			}
			if _, err := db.Pool(t).Exec(t.Context(), `update counters set version = version + 1 where id = 1 + $1::int % 12`, n); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	var once sync.Once
	end := func() int {
		once.Do(func() { close(ended) })
		<-over
		return total(t, db)
	}
	t.Cleanup(func() {
		once.Do(func() { close(ended) })
		<-over
	})
	return end
}

// dumpable is a database that the pg_dump here can read: it refuses one that is newer than itself.
func dumpable(t *testing.T) *pgtest.DB {
	t.Helper()
	db := pgtest.New(t)
	cmd := exec.CommandContext(t.Context(), "pg_dump", "--version")
	cmd.Env = append(os.Environ(), "PATH="+path(t))
	cmd.Path, _ = exec.LookPath("pg_dump")
	if found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/pg_dump"); len(found) > 0 {
		cmd.Path, cmd.Err = found[len(found)-1], nil
	}
	out, err := cmd.Output()
	m := regexp.MustCompile(`\) (\d+)`).FindSubmatch(out)
	if err != nil || m == nil {
		t.Fatalf("there is no pg_dump here: run scripts/setup.sh test (%v)", err)
	}
	var server int
	if err := db.Pool(t).QueryRow(t.Context(), `select current_setting('server_version_num')::int / 10000`).Scan(&server); err != nil {
		t.Fatal(err)
	}
	if major, _ := strconv.Atoi(string(m[1])); server > major {
		db = pgtest.NewOn(t, pgtest.Server(t, localpg.Options{Version: strconv.Itoa(major)}))
	}
	return db
}

// An upgrade and the way back, while the application writes and clients follow: they lose nothing, and nothing comes twice.
func TestGoingBack(t *testing.T) {
	t.Parallel()
	db := dumpable(t)
	db.Exec(t, countersTable)
	h := newHost(t, db.URL)
	h.sh("ln -s notifyql-0.1.0 notifyql")
	h.step("In each shell.")
	h.step("Start.")
	h.runs("0.1.0")
	var followers []*resumer
	for range 3 {
		followers = append(followers, follow(t, h.addr))
	}
	stop := counting(t, db)
	h.step("Before an upgrade: what is needed to go back.")
	h.step("Stop. Clients are sent away with 1012, come back, and go on behind their cursors.")
	h.step("The new version.")
	h.step("Start.")
	h.runs("0.2.0")
	for _, f := range followers { // they have something from the new one, with which they go back
		f.await(t, "to come back", func() bool { return f.resumed > 0 })
	}
	h.sh("echo NOTIFYQL_MODE=nonsense >>.env") // a change of the settings that is to be taken back
	began := time.Now()
	h.step("Stop. Clients are sent away with 1012, come back, and go on behind their cursors.")
	h.step("The version before, and its settings.")
	h.step("Start.")
	h.runs("0.1.0")
	took := time.Since(began)
	for _, f := range followers {
		f.await(t, "to come back again", func() bool { return f.resumed > 1 })
	}
	want := stop()
	for _, f := range followers {
		f.total(t, want)
		if f.count(&f.expired) != 0 {
			t.Error("a cursor was refused")
		}
	}
	if said := h.step("Is what arrived what was written?"); !strings.Contains(said, "counters") {
		t.Error(said)
	}
	t.Logf("back in %v; %d updates arrived, each once and in order", took, want)
	if took > 5*time.Minute {
		t.Errorf("going back took %v", took)
	}
}

// A schema that says that the version before may not run on it: that says so and stays away, the new one goes on.
func TestGoingBackTooFar(t *testing.T) {
	t.Parallel()
	db := dumpable(t)
	db.Exec(t, countersTable)
	h := newHost(t, db.URL)
	h.sh("ln -s notifyql-0.1.0 notifyql")
	h.step("In each shell.")
	if said := h.step("The version before, may it run?"); !strings.Contains(said, "at version") {
		t.Errorf("it may run, and said %s", said)
	}
	db.Exec(t, `update notifyql.setting set min_schema = (select max(version) from notifyql.migrations)`)
	if said := h.sh(strings.TrimSpace(h.steps["The version before, may it run?"]) + " || echo refused"); !strings.Contains(said, "use the newer program") || !strings.Contains(said, "refused") {
		t.Errorf("it may not run, and said %s", said)
	}
	h.sh("./notifyql serve >>notifyql.log 2>&1 & echo $! >notifyql.pid")
	(&server{addr: h.addr}).await(t, "to say why it is not ready", func(h health) bool {
		return h.Status == "starting" && strings.Contains(h.Problems["listener"], "use a newer program")
	})
}

// The schema removed and made anew over tables with rows, while the application writes: what was declared is again, and who follows begins
// anew, since its cursor is of a history that is no more.
func TestTheSchemaAnew(t *testing.T) {
	t.Parallel()
	db := dumpable(t)
	db.Exec(t, countersTable)
	h := newHost(t, db.URL)
	h.sh("ln -s notifyql-0.2.0 notifyql")
	h.step("In each shell.")
	h.step("Start.")
	f := follow(t, h.addr)
	stop := counting(t, db)
	before := h.sh("./notifyql tables --sql")
	h.step("Stop. Clients are sent away with 1012, come back, and go on behind their cursors.")
	h.step("The schema anew.")
	h.step("Start.")
	if after := h.sh("./notifyql tables --sql"); after != before {
		t.Errorf("it was\n%s\nand is\n%s", before, after)
	}
	f.await(t, "to be told that its cursor is of another history", func() bool { return f.expired > 0 })
	f.await(t, "to have the rows", func() bool { return f.cursor != "" })
	f.total(t, stop())
}

// A backup, restored as another database, with a tenant that is found through a foreign key: watched again it streams, and cursors of the
// history before are refused.
func TestRestoringABackup(t *testing.T) {
	t.Parallel()
	db := dumpable(t)
	db.Exec(t, countersTable+`
		create table notes (id int primary key, counter int references counters, note text);
		select notifyql.watch('notes', tenant_via => 'counter')`)
	name := db.Name + "_restored"
	url := strings.Replace(db.URL, db.Name, name, 1)
	h := newHost(t, db.URL, "postgres://app@localhost/restored", url, "create database restored", "create database "+name)
	t.Cleanup(func() { db.Exec(t, `drop database if exists `+name+` with (force)`) })
	t.Cleanup(func() { h.sh(`kill -KILL "$(cat notifyql.pid)" || true`) })
	h.sh("ln -s notifyql-0.2.0 notifyql")
	h.step("In each shell.")
	h.step("Start.")
	f := follow(t, h.addr)
	db.Exec(t, `update counters set version = version + 1`)
	f.total(t, 12)
	h.step("Before an upgrade: what is needed to go back.")
	db.Exec(t, `update counters set version = version + 1`) // is not in the backup
	f.total(t, 24)
	h.step("A backup, as another database.")
	h.step("Stop. Clients are sent away with 1012, come back, and go on behind their cursors.")
	f.mu.Lock()
	clear(f.versions) // what is restored is older than what it had
	f.mu.Unlock()
	h.step("The server on it.")
	h.step("Start.")
	f.await(t, "to be told that its cursor is of another history", func() bool { return f.expired > 0 })
	f.total(t, 12)
	restored := func(sql string) { h.sh(`psql --quiet --set=ON_ERROR_STOP=1 "$DATABASE_URL" --command="` + sql + `"`) }
	restored(`update counters set version = version + 1 where id = 7`)
	f.total(t, 13)
	notes := connect(t, h.addr, map[string]any{"tenantId": "acme"}, subscription{Query: `subscription { notesChanged { new { note } } }`})
	(&server{addr: h.addr}).await(t, "to have both subscriptions", func(h health) bool { return h.Subscriptions == 2 })
	restored(`insert into notes values (1, 7, 'found its tenant')`)
	if got, want := notes.next(t), `{"data":{"notesChanged":{"new":{"note":"found its tenant"}}}}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	notes.stop(os.Kill) //nolint:errcheck // it has served
}

// Each step of the runbook is run by a test.
func TestTheRunbookIsTried(t *testing.T) {
	t.Parallel()
	sources := ""
	for _, name := range []string{"goingback_test.go", "rollout_test.go"} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		sources += string(b)
	}
	all := blocks(t)
	for title := range all {
		if !strings.Contains(sources, "h.step("+strconv.Quote(title)+")") {
			t.Errorf("no test runs %q", title)
		}
	}
	if len(all) < 8 {
		t.Errorf("found %d steps", len(all))
	}
}
