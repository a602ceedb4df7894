package deploy

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
)

// compose is what we use of a compose file; a key that is not here is a mistake.
type compose struct {
	Name     string             `yaml:"name"`
	Services map[string]service `yaml:"services"`
	Volumes  map[string]any     `yaml:"volumes"`
}

type service struct {
	Image           string                                `yaml:"image"`
	Build           string                                `yaml:"build"`
	Command         []string                              `yaml:"command"`
	Environment     map[string]string                     `yaml:"environment"`
	EnvFile         []envFile                             `yaml:"env_file"`
	Volumes         []string                              `yaml:"volumes"`
	Ports           []string                              `yaml:"ports"`
	DependsOn       map[string]struct{ Condition string } `yaml:"depends_on"`
	HealthCheck     *healthCheck                          `yaml:"healthcheck"`
	Restart         string                                `yaml:"restart"`
	StopGracePeriod string                                `yaml:"stop_grace_period"`
	ReadOnly        bool                                  `yaml:"read_only"`
	CapDrop         []string                              `yaml:"cap_drop"`
	SecurityOpt     []string                              `yaml:"security_opt"`
}

type envFile struct {
	Path     string `yaml:"path"`
	Required *bool  `yaml:"required"`
}

type healthCheck struct {
	Disable     bool     `yaml:"disable"`
	Test        []string `yaml:"test"`
	Interval    string   `yaml:"interval"`
	Timeout     string   `yaml:"timeout"`
	StartPeriod string   `yaml:"start_period"`
	Retries     int      `yaml:"retries"`
}

// read returns a file of the repository.
func read(t *testing.T, name ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(append([]string{"..", ".."}, name...)...))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func readCompose(t *testing.T) compose {
	t.Helper()
	var c compose
	if err := yaml.UnmarshalWithOptions([]byte(read(t, "docker-compose.yml")), &c, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	return c
}

var interpolation = regexp.MustCompile(`\$\{(\w+)(:-([^}]*))?\}`)

// defaults fills in what compose would where no variable is set.
func defaults(t *testing.T, text string) string {
	t.Helper()
	return interpolation.ReplaceAllStringFunc(text, func(v string) string {
		m := interpolation.FindStringSubmatch(v)
		if m[2] == "" {
			t.Errorf("%s has no default: compose would need a .env", v)
		}
		return m[3]
	})
}

// example is .env.example: the variables with their values, those that are commented out included.
func example(t *testing.T) map[string]string {
	t.Helper()
	vars := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^(?:# )?([A-Z][A-Z_]+)=(.*)$`).FindAllStringSubmatch(read(t, ".env.example"), -1) {
		if _, twice := vars[m[1]]; twice {
			t.Errorf(".env.example names %s twice", m[1])
		}
		vars[m[1]] = m[2]
	}
	return vars
}

// settings are the server's variables and their defaults, as its source has them.
func settings(t *testing.T) map[string]string {
	t.Helper()
	vars := map[string]string{}
	for _, m := range regexp.MustCompile(`\{"[a-z-]+", "([A-Z_]+)", "([^"]*)", `).FindAllStringSubmatch(read(t, "cmd", "server", "settings.go"), -1) {
		vars[m[1]] = m[2]
	}
	if len(vars) < 5 {
		t.Fatalf("found only %v in the server's settings", vars)
	}
	return vars
}

func duration(t *testing.T, what, text string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		t.Errorf("%s is %q: %v", what, text, err)
	}
	return d
}

// lines returns the instructions of a Dockerfile, continued lines joined.
func lines(dockerfile string) []string {
	var found []string
	for line := range strings.SplitSeq(strings.ReplaceAll(dockerfile, "\\\n", " "), "\n") {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			found = append(found, strings.Join(strings.Fields(line), " "))
		}
	}
	return found
}
