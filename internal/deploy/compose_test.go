package deploy

import (
	"fmt"
	"maps"
	"net"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

func TestComposeStartsInOrder(t *testing.T) {
	t.Parallel()
	c := readCompose(t)
	if got := slices.Sorted(maps.Keys(c.Services)); !slices.Equal(got, []string{"migrate", "postgres", "server"}) {
		t.Fatalf("services %v", got)
	}
	for name, want := range map[string]map[string]string{
		"postgres": {},
		"migrate":  {"postgres": "service_healthy"},
		"server":   {"postgres": "service_healthy", "migrate": "service_completed_successfully"},
	} {
		got := map[string]string{}
		for on, how := range c.Services[name].DependsOn {
			got[on] = how.Condition
		}
		if !maps.Equal(got, want) {
			t.Errorf("%s waits for %v, want %v", name, got, want)
		}
	}
	if got := c.Services["migrate"].Restart; got != "no" {
		t.Errorf("migrate runs once, and restarts %q", got)
	}
}

func TestComposeImages(t *testing.T) {
	t.Parallel()
	c := readCompose(t)
	if image := c.Services["postgres"].Image; !regexp.MustCompile(`^postgres:1[3-8](\.\d+)?-alpine$`).MatchString(image) {
		t.Errorf("Postgres is %q: we work on 13 to 18, and say which", image)
	}
	// From 18 on the image keeps its data one folder higher, and refuses a volume at the old place.
	if got := c.Services["postgres"].Volumes; !slices.Equal(got, []string{"postgres:/var/lib/postgresql"}) {
		t.Errorf("Postgres' volumes are %v", got)
	}
	if _, ok := c.Volumes["postgres"]; !ok {
		t.Error("the volume is not declared")
	}
	for _, name := range []string{"migrate", "server"} {
		if s := c.Services[name]; s.Build != "." || s.Image != "" {
			t.Errorf("%s is built from %q, image %q", name, s.Build, s.Image)
		}
	}
}

func TestComposeHealth(t *testing.T) {
	t.Parallel()
	c := readCompose(t)
	pg, server := c.Services["postgres"], c.Services["server"]
	want := []string{"CMD", "pg_isready", "--host=127.0.0.1", "--username=" + pg.Environment["POSTGRES_USER"], "--dbname=" + pg.Environment["POSTGRES_DB"]}
	if got := pg.HealthCheck.Test; !slices.Equal(got, want) {
		t.Errorf("Postgres is asked %v, want %v", got, want)
	}
	if got := server.HealthCheck.Test; !slices.Equal(got, []string{"CMD", "/notifyql", "health"}) {
		t.Errorf("the server, whose image has no other program, is asked %v", got)
	}
	for name, s := range map[string]service{"postgres": pg, "server": server} {
		duration(t, name+"'s interval", s.HealthCheck.Interval)
		// notifyql health itself gives up after three seconds.
		if d := duration(t, name+"'s timeout", s.HealthCheck.Timeout); d.Seconds() < 3 {
			t.Errorf("%s has %v to answer", name, d)
		}
		if s.HealthCheck.Retries < 1 {
			t.Errorf("%s: %d retries", name, s.HealthCheck.Retries)
		}
	}
	if !c.Services["migrate"].HealthCheck.Disable {
		t.Error("migrate serves nothing, and is asked for its health")
	}
	drain := duration(t, "NOTIFYQL_DRAIN_TIMEOUT", settings(t)["NOTIFYQL_DRAIN_TIMEOUT"])
	if grace := duration(t, "stop_grace_period", server.StopGracePeriod); grace <= drain {
		t.Errorf("Docker kills the server after %v, and it may take %v", grace, drain)
	}
}

func TestComposeClosesWhatNeedNotBeOpen(t *testing.T) {
	t.Parallel()
	c := readCompose(t)
	server := c.Services["server"]
	_, port, err := net.SplitHostPort(server.Environment["NOTIFYQL_ADDR"])
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range c.Services {
		var want []string
		if name == "server" { // it trusts its clients by default: only this machine's
			want = []string{"127.0.0.1:8000:" + port}
		}
		var got []string
		for _, p := range s.Ports {
			got = append(got, defaults(t, p))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s publishes %v, want %v", name, got, want)
		}
	}
	if !server.ReadOnly || !slices.Contains(server.CapDrop, "ALL") || !slices.Contains(server.SecurityOpt, "no-new-privileges:true") {
		t.Error("the server has rights that it does not need")
	}
}

func TestComposeDatabase(t *testing.T) {
	t.Parallel()
	c := readCompose(t)
	pg := c.Services["postgres"]
	for _, name := range []string{"migrate", "server"} {
		url := defaults(t, c.Services[name].Environment["DATABASE_URL"])
		conf, err := pgx.ParseConfig(url)
		if err != nil {
			t.Fatal(err)
		}
		if conf.Host != "postgres" || conf.Port != 5432 || conf.User != pg.Environment["POSTGRES_USER"] ||
			conf.Database != pg.Environment["POSTGRES_DB"] || conf.Password != defaults(t, pg.Environment["POSTGRES_PASSWORD"]) {
			t.Errorf("%s goes to %s, which is not the Postgres beside it", name, url)
		}
	}
}

func TestComposeCommandsExist(t *testing.T) {
	t.Parallel()
	c, main := readCompose(t), read(t, "cmd", "server", "main.go")
	for _, name := range []string{"migrate", "server"} {
		command := c.Services[name].Command
		if len(command) == 0 || !strings.Contains(main, `{"`+command[0]+`", `) {
			t.Errorf("%s runs %v, which the binary has not", name, command)
		}
	}
	if !strings.Contains(main, `{"health", `) {
		t.Error("the binary has no command health")
	}
}

func TestVariables(t *testing.T) {
	t.Parallel()
	c, doc, server := readCompose(t), example(t), settings(t)
	known := map[string]bool{}
	for name, def := range server {
		known[name] = true
		value, ok := doc[name]
		if !ok {
			t.Errorf(".env.example lacks %s", name)
		}
		if def != "" && value != def {
			t.Errorf(".env.example says that %s is %q by default; it is %q", name, value, def)
		}
	}
	for _, m := range interpolation.FindAllStringSubmatch(read(t, "docker-compose.yml"), -1) {
		known[m[1]] = true
		if value, ok := doc[m[1]]; !ok || value != m[3] {
			t.Errorf("compose takes %s, by default %q; .env.example has %q", m[1], m[3], value)
		}
	}
	for name := range doc {
		if !known[name] {
			t.Errorf(".env.example has %s, which nothing reads", name)
		}
	}
	for name := range c.Services["server"].Environment {
		if _, ok := server[name]; !ok {
			t.Errorf("compose gives the server %s, which it does not read", name)
		}
	}
	if files := c.Services["server"].EnvFile; len(files) != 1 || files[0].Path != ".env" || files[0].Required == nil || *files[0].Required {
		t.Errorf("the server's settings come from %+v, want .env if it is there", files)
	}
}

func TestDockerfile(t *testing.T) {
	t.Parallel()
	file := lines(read(t, "Dockerfile"))
	last := slices.Index(file, "FROM scratch")
	if last < 0 {
		t.Fatal("the image is not built from scratch")
	}
	build, image := strings.Join(file[:last], "\n"), file[last:]
	goVersion := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(read(t, "go.mod"))
	if !strings.Contains(build, "golang:"+goVersion[1]+" ") {
		t.Errorf("go.mod asks for Go %s, the image is built with another", goVersion[1])
	}
	if !strings.Contains(build, "CGO_ENABLED=0") {
		t.Error("the binary is not static")
	}
	for _, m := range regexp.MustCompile(`(?m)\S+ => \.\./\.\./(\S+)$`).FindAllStringSubmatch(read(t, "cmd", "server", "go.mod"), -1) {
		if want := fmt.Sprintf("COPY %[1]s/go.mod %[1]s/go.sum %[1]s/", m[1]); !slices.Contains(file, want) {
			t.Errorf("modules are fetched before there is %s: want %s", m[1], want)
		}
	}
	_, port, err := net.SplitHostPort(settings(t)["NOTIFYQL_ADDR"])
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/",
		"COPY --from=build /notifyql /notifyql",
		"USER 65532:65532",
		"EXPOSE " + port,
		`ENTRYPOINT ["/notifyql"]`,
		`CMD ["serve"]`,
	} {
		if !slices.Contains(image, want) {
			t.Errorf("the image lacks %s", want)
		}
	}
	ignored := lines(read(t, ".dockerignore"))
	for _, want := range []string{".git", ".cache", ".env", "**/node_modules"} {
		if !slices.Contains(ignored, want) {
			t.Errorf("%s is sent to the build", want)
		}
	}
}
