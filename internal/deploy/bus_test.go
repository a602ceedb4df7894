package deploy

import (
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/notifyql/notifyql/internal/localbroker"
)

// TestComposeRedis: what docker-compose.redis.yml adds is a Redis that nobody else reaches, run as it is said there, and the server's
// setting that leads to it.
func TestComposeRedis(t *testing.T) {
	t.Parallel()
	const name = "docker-compose.redis.yml"
	var c compose
	if err := yaml.UnmarshalWithOptions([]byte(read(t, name)), &c, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	redis, server := c.Services["redis"], c.Services["server"]
	if len(c.Services) != 2 {
		t.Errorf("there are %d services", len(c.Services))
	}
	u, err := url.Parse(server.Environment["NOTIFYQL_BUS"])
	if err != nil || u.Scheme != "redis" || u.Hostname() != "redis" {
		t.Errorf("the server's bus is %s: %v", u, err)
	}
	for setting := range server.Environment {
		if _, ok := settings(t)[setting]; !ok {
			t.Errorf("the server does not read %s", setting)
		}
	}
	if server.DependsOn["redis"].Condition != "service_started" {
		t.Errorf("the server waits for %v", server.DependsOn)
	}
	if !regexp.MustCompile(`^redis:[78](\.\d+)?-alpine$`).MatchString(redis.Image) {
		t.Errorf("Redis is %q", redis.Image)
	}
	if len(redis.Ports) > 0 {
		t.Errorf("Redis, which has no password, publishes %v", redis.Ports)
	}
	if !slices.Equal(redis.HealthCheck.Test, []string{"CMD", "redis-cli", "ping"}) {
		t.Errorf("Redis is asked %v", redis.HealthCheck.Test)
	}
	duration(t, "Redis' interval", redis.HealthCheck.Interval)
	duration(t, "Redis' timeout", redis.HealthCheck.Timeout)
	if len(redis.Command) == 0 || redis.Command[0] != "redis-server" {
		t.Fatalf("Redis runs %v", redis.Command)
	}
	localbroker.New(t, localbroker.Redis, redis.Command[1:]...) // it takes these
	if page := read(t, "docs", "buses.md"); !strings.Contains(page, "docker compose -f docker-compose.yml -f "+name+" up") {
		t.Errorf("docs/buses.md does not say how %s is used", name)
	}
}
