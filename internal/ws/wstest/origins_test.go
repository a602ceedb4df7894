package wstest

import (
	"strings"
	"testing"

	"github.com/notifyql/notifyql/internal/ws"
)

func TestOrigins(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		origins []string
		origin  string
		ok      bool
	}{
		{nil, "", true},
		{nil, "http://HOST", true},
		{nil, "http://evil.example", false},
		{nil, "null", false},
		{[]string{"app.example"}, "https://app.example", true},
		{[]string{"https://app.example"}, "http://app.example", false},
		{[]string{"*.example"}, "https://app.example", true},
		{[]string{"*.example"}, "https://example.evil", false},
		{[]string{"*"}, "null", true},
		{[]string{"*"}, "https://evil.example", true},
	} {
		s := newServer(t, newFake(), ws.AcceptOptions{Origins: test.origins}, ws.Options{})
		host := strings.TrimPrefix(s.URL, "http://")
		status := s.handshake(t, "Origin", strings.ReplaceAll(test.origin, "HOST", host))
		if want := map[bool]int{true: 101, false: 403}[test.ok]; status != want {
			t.Errorf("%v with origin %q: %d, want %d", test.origins, test.origin, status, want)
		}
	}
}
