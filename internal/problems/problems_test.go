package problems

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestRedact(t *testing.T) {
	for in, want := range map[string]string{
		"cannot reach postgres://app:s3cret@db:5432/x":     "cannot reach postgres://app:***@db:5432/x",
		"host=db password=s3cret user=app":                 "host=db password=*** user=app",
		"host=db password='s3 cret' user=app":              "host=db password=*** user=app",
		"Authorization: Bearer abc.def":                    "Authorization: ***",
		"listen notifyql_0123456789abcdef0123456789abcdef": "listen notifyql_***",
		"nothing to hide":                                  "nothing to hide",
		"postgres://app:p@ss/wo:rd@db/x refused":           "postgres://app:***@db/x refused",
		"postgres://app@db:5432/x refused":                 "postgres://app@db:5432/x refused",
		`got {"password": "a\"b", "n": 1}`:                 `got {"password": ***, "n": 1}`,
		"GET /?access_token=abc.def&x=1":                   "GET /?access_token=***&x=1",
		"jwt_secret: abc":                                  "jwt_secret: ***",
	} {
		if got := Redact(in); got != want {
			t.Errorf("Redact(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestWarningsAreCountedAndPassedOnClean(t *testing.T) {
	now := time.Unix(1e9, 0)
	r := NewRecorder()
	r.now = func() time.Time { return now }
	var out bytes.Buffer
	log := slog.New(r.Handler(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelError})))
	log.Info("started")
	for range 5 {
		log.Warn("connection lost", "error", errors.New("postgres://a:b@c refused"))
	}
	now = now.Add(time.Minute)
	log.Error("broken", "url", "postgres://a:b@c/d")
	list := r.List()
	if len(list) != 2 || list[0].Kind != "broken" || list[1].Count != 5 || list[1].PerMinute != 1 || list[1].Detail != "postgres://a:***@c refused" {
		t.Errorf("list %+v", list)
	}
	if s := out.String(); strings.Contains(s, "connection lost") || strings.Contains(s, ":b@") || !strings.Contains(s, "broken") {
		t.Errorf("logged %q", s)
	}
	now = now.Add(time.Hour)
	if got := r.List(); got[0].PerMinute != 0 {
		t.Errorf("an hour later: %+v", got)
	}
}

func TestKindsAreBounded(t *testing.T) {
	r := NewRecorder()
	log := slog.New(r.Handler(slog.DiscardHandler))
	for i := range 1000 {
		log.Warn(fmt.Sprint("kind ", i))
	}
	var total int64
	list := r.List()
	for _, k := range list {
		total += k.Count
	}
	if len(list) > maxKinds+1 || total != 1000 {
		t.Errorf("%d kinds, %d counted", len(list), total)
	}
}

// Whatever is logged, and however: its secrets are not.
func TestAttributesAreClean(t *testing.T) {
	var out bytes.Buffer
	r := NewRecorder()
	log := slog.New(r.Handler(slog.NewJSONHandler(&out, nil)))
	u, err := url.Parse("postgres://bob:hunter2@db/x")
	if err != nil {
		t.Fatal(err)
	}
	log = log.With("token", "hunter2").WithGroup("g").With("config", map[string]string{"password": "hunter2"})
	log.Error("failed with password=hunter2", "password", "hunter2", "list", []string{"secret=hunter2"},
		slog.Group("to", "url", "http://a:hunter2@b", slog.Group("deep", "error", errors.New("token: hunter2"))),
		"error", fmt.Errorf("dialing %s: password=hunter2", u), "count", 7)
	if s := out.String(); strings.Contains(s, "hunter2") || !strings.Contains(s, `"count":7`) || !strings.Contains(s, "dialing postgres://bob:") {
		t.Errorf("logged %s", s)
	}
	if s := fmt.Sprint(r.List()); strings.Contains(s, "hunter2") {
		t.Errorf("listed %s", s)
	}
}
