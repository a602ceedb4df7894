package pg

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
)

func TestAProblemIsSaidOnce(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	s := newState(slog.New(slog.NewTextHandler(&out, nil)))
	said := func(want int, what string) {
		t.Helper()
		if n := strings.Count(out.String(), what); n != want {
			t.Errorf("%q was said %d times, want %d:\n%s", what, n, want, out.String())
		}
	}
	away, slow := errors.New("it is away"), errors.New("it is slow")
	for range 3 {
		for _, part := range []string{"listener", "heartbeat", "catalog"} {
			s.problem(part, away)
		}
	}
	said(1, "has a problem")
	s.problem("heartbeat", slow)
	said(2, "has a problem")
	if p := s.get().Problems; len(p) != 3 || p["catalog"] != "it is away" {
		t.Errorf("problems %v", p)
	}
	for _, part := range []string{"listener", "heartbeat", "catalog"} {
		s.problem(part, nil)
		s.problem(part, nil)
	}
	said(2, "works again")
	s.problem("sweep", away)
	said(3, "has a problem")
}
