package pg

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// storables are JSON texts of which jsonb takes some.
var storables = []string{
	`null`, `true`, `0`, `-0.0`, `1e5`, `12.340`, `""`, `"a"`, `{}`, `[[], {"a": [1, "x"]}]`,
	`"\u0000"`, `{"\u0000": 1}`, `"\\u0000"`, `"\u0001"`,
	`"\ud83d\ude00"`, `"\uD83D\uDE00"`, `"\ud83d"`, `"\ude00"`, `"\ude00\ud83d"`, `"\ud83d\ud83d\ude00"`, `"\ud83dx"`, `"\ud83d\n"`, `"\ud83d\\"`, `"é\ud83d\ude00"`,
	`"` + "\xff" + `"`,
	`1e131071`, `1e131072`, `1E+131073`, `-1e131071`, `0.1e131072`, `1e-16383`, `1e-16384`, `0.1e-16382`, `0.1e-16383`, `1e-16400`, `1e1000000000`, `1e00005`,
	strings.Repeat("9", 131072), strings.Repeat("9", 131073), "0." + strings.Repeat("9", 16383), "0." + strings.Repeat("9", 16384),
	strings.Repeat("[", 1000) + strings.Repeat("]", 1000),
}

// What is said to be storable, Postgres takes; of what is said not to be it may take some.
func TestStorable(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	spared := 0
	for _, text := range storables {
		size, why := Storable([]byte(text))
		_, err := db.Pool(t).Exec(t.Context(), "select notifyql.publish('c', $1::text::jsonb, 'a')", text)
		var bytes int
		if err == nil {
			err = db.Pool(t).QueryRow(t.Context(), "select octet_length($1::text::jsonb::text)", text).Scan(&bytes)
		}
		switch {
		case why == nil && err != nil:
			t.Errorf("%.60s: is said to be storable, but %v", text, err)
		case why == nil && (size < bytes || size > bytes+len(text)): // but for spaces
			t.Errorf("%.60s: has %d bytes, not %d", text, bytes, size)
		case why != nil && err == nil:
			t.Logf("%.60s: Postgres would have taken it, but %v", text, why)
			spared++
		}
	}
	if spared > 3 {
		t.Errorf("%d texts are refused without need", spared)
	}
	if _, why := Storable([]byte(strings.Repeat("[", 1001) + strings.Repeat("]", 1001))); why == nil {
		t.Error("it may be nested without end")
	}
}

func FuzzStorable(f *testing.F) {
	for _, text := range storables {
		if len(text) < 100 {
			f.Add([]byte(text))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var v any
		if json.Unmarshal(data, &v) != nil {
			return
		}
		// A decoder replaces what is no character, so a text that is whole is the same again.
		if _, err := Storable(data); err == nil && strings.ContainsRune(string(data), '\uFFFD') != strings.ContainsRune(mustText(v), '\uFFFD') &&
			!strings.Contains(strings.ToLower(string(data)), `\ufffd`) {
			t.Errorf("%q is storable", data)
		}
	})
}

func mustText(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return string(b)
}
