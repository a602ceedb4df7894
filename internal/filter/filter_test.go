package filter

import (
	"cmp"
	"encoding/json"
	"math/big"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/notifyql/notifyql/internal/catalog"
	"github.com/notifyql/notifyql/internal/change"
)

func rowOf(t testing.TB, image string) *change.Row {
	t.Helper()
	var r change.Row
	if err := r.Parse([]byte(image)); err != nil {
		t.Fatal(err)
	}
	return &r
}

func value(t testing.TB, c *Column, text string) Value {
	t.Helper()
	v, err := c.ParseValue(text)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestJunctions(t *testing.T) {
	t.Parallel()
	n := NewColumn("n", 0, builtin("int4"))
	one := Compare(n, Eq, value(t, n, "1"))
	null := IsNull(n)
	rows := []*change.Row{rowOf(t, `{"n":1}`), rowOf(t, `{"n":2}`), rowOf(t, `{"n":null}`), rowOf(t, `{"n":"x"}`), rowOf(t, `{}`)}
	for _, c := range []struct {
		name string
		p    *Predicate
		want [5]Truth
	}{
		{"zero", &Predicate{}, [5]Truth{True, True, True, True, True}},
		{"and", And(), [5]Truth{True, True, True, True, True}},
		{"or", Or(), [5]Truth{False, False, False, False, False}},
		{"one", one, [5]Truth{True, False, Unknown, Invalid, Invalid}},
		{"not", Not(one), [5]Truth{False, True, Unknown, Invalid, Invalid}},
		{"null", null, [5]Truth{False, False, True, False, Invalid}},
		{"one or null", Or(one, null), [5]Truth{True, False, True, Invalid, Invalid}},
		{"one and null", And(one, null), [5]Truth{False, False, Unknown, False, Invalid}},
		{"nested", And(And(one, Not(null)), And()), [5]Truth{True, False, False, Invalid, Invalid}},
		{"in nothing", In(n, nil), [5]Truth{False, False, False, False, False}},
	} {
		for i, row := range rows {
			if got := c.p.Eval(row); got != c.want[i] {
				t.Errorf("%s of row %d is %d, want %d", c.name, i, got, c.want[i])
			}
		}
	}
	if a, b := And(one, null).Key(), And(null, And(one, one)).Key(); a != b {
		t.Errorf("keys differ: %s, %s", a, b)
	}
	if a, b := And(one, null).Key(), Or(one, null).Key(); a == b {
		t.Errorf("keys are equal: %s", a)
	}
	if !And(And(), And()).Always() || Or().Always() {
		t.Error("Always is wrong")
	}
}

func TestDecimals(t *testing.T) {
	t.Parallel()
	texts := strings.Fields("0 -0 0.0 1 1.0 01 -1 0.05 5e-2 50e-3 .5 0.5 5. 10 1e1 100e-1 0.1 0.10 0.01 9 9.99 10.0 -0.05 -5e-2 123.456 1.23456e2 +7 1e20 100000000000000000000 99999999999999999999")
	for _, a := range texts {
		for _, b := range texts {
			x, okX := parseDecimal([]byte(a))
			y, okY := parseDecimal([]byte(b))
			p, _ := new(big.Rat).SetString(a)
			q, _ := new(big.Rat).SetString(b)
			if want := p.Cmp(q); !okX || !okY || x.compare(y) != want {
				t.Errorf("%s and %s: %d, want %d", a, b, x.compare(y), want)
			} else if (x.key() == y.key()) != (want == 0) {
				t.Errorf("keys of %s and %s: %s, %s", a, b, x.key(), y.key())
			}
		}
	}
	for _, bad := range []string{"", ".", "-", "e1", "1e", "1e+", "1.2.3", "1x", "0x1", "1e99999999999", "--1", "1_0", " 1"} {
		if _, ok := parseDecimal([]byte(bad)); ok {
			t.Errorf("%q is taken for a number", bad)
		}
	}
}

func TestLike(t *testing.T) {
	t.Parallel()
	// The simplest matcher there is, exponential and obviously right.
	var simple func(s, p []rune) bool
	simple = func(s, p []rune) bool {
		if len(p) == 0 {
			return len(s) == 0
		}
		switch p[0] {
		case '%':
			return simple(s, p[1:]) || len(s) > 0 && simple(s[1:], p)
		case '_':
			return len(s) > 0 && simple(s[1:], p[1:])
		}
		return len(s) > 0 && s[0] == p[0] && simple(s[1:], p[1:])
	}
	c := NewColumn("s", 0, builtin("text"))
	rapid.Check(t, func(rt *rapid.T) {
		s := strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "ä", "\n"}), 0, 8).Draw(rt, "text"), "")
		p := strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "ä", "_", "%"}), 0, 6).Draw(rt, "pattern"), "")
		like, err := Like(c, p, false)
		if err != nil {
			rt.Fatal(err)
		}
		image, _ := json.Marshal(map[string]string{"s": s})
		if got, want := like.Eval(rowOf(t, string(image))), truth(simple([]rune(s), []rune(p))); got != want {
			rt.Fatalf("%q like %q: %d, want %d", s, p, got, want)
		}
	})
}

// TestLikeIsLinear matches what makes backtracking matchers slow: the time for a long text is a matter of
// milliseconds, not of the square of its length.
func TestLikeIsLinear(t *testing.T) {
	t.Parallel()
	c := NewColumn("s", 0, builtin("text"))
	for _, pattern := range []string{strings.Repeat("%a", 200) + "%b", "%" + strings.Repeat("a_", 120) + "b%", "%" + strings.Repeat("a", 250) + "b%"} {
		for _, fold := range []bool{false, true} {
			p, err := Like(c, pattern, fold)
			if err != nil {
				t.Fatal(err)
			}
			row := rowOf(t, `{"s":"`+strings.Repeat("a", 1<<20)+`"}`)
			start := time.Now()
			if p.Eval(row) != False {
				t.Error("matches")
			}
			if d := time.Since(start); d > 2*time.Second {
				t.Errorf("%.20s… took %s", pattern, d)
			}
		}
	}
	if _, err := Like(c, "%"+strings.Repeat("_", PatternLimit+1)+"%", false); err == nil {
		t.Error("a pattern too long is taken")
	}
	if _, err := Like(c, `a\`, false); err == nil {
		t.Error("an unfinished pattern is taken")
	}
}

func TestText(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		text := rapid.SliceOfN(rapid.SampledFrom([]string{"a", `"`, `\`, "\n", "\x1f", "é", "𝄞", "\u2028", "/"}), 0, 6)
		a, b := strings.Join(text.Draw(rt, "a"), ""), strings.Join(text.Draw(rt, "b"), "")
		raw, _ := json.Marshal(a) // escapes even more than Postgres does
		raw = raw[1 : len(raw)-1]
		if got := string(AppendText(nil, raw)); got != a {
			rt.Fatalf("%s is %q, want %q", raw, got, a)
		}
		if got, want := compareText(raw, []byte(b), false), cmp.Compare(a, b); got != want {
			rt.Fatalf("%q and %q: %d, want %d", a, b, got, want)
		}
	})
	for raw, want := range map[string]string{`\ud834\udd1e`: "𝄞", `\ud834`: "\uFFFD", `\ud834x`: "\uFFFDx", `\u00e`: `\u00e`, `\`: `\`, `\x`: `\x`} {
		if got := string(AppendText(nil, []byte(raw))); got != want {
			t.Errorf("%s is %q, want %q", raw, got, want)
		}
	}
	if got := ImageName("a\"b\\c\n\x01ä"); got != `a\"b\\c\n\u0001ä` {
		t.Error(got)
	}
}

func TestInstants(t *testing.T) {
	t.Parallel()
	epoch := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	rapid.Check(t, func(rt *rapid.T) {
		at := epoch.Add(time.Duration(rapid.Int64Range(-9e18, 9e18).Draw(rt, "ns"))).Truncate(time.Microsecond)
		got, ok := instant([]byte(at.Format("2006-01-02T15:04:05.999999Z07:00")), TimestampTZ)
		if want := at.Sub(epoch).Microseconds(); !ok || got != want {
			rt.Fatalf("%s is %d, want %d", at, got, want)
		}
		iso, ok := AppendISO(nil, appendPostgres(nil, got, TimestampTZ), TimestampTZ)
		if want := at.Format("2006-01-02T15:04:05.999999Z"); !ok || string(iso) != want {
			rt.Fatalf("%s is written %s", want, iso)
		}
	})
	for text, want := range map[string]string{
		"0044-03-15T00:00:00+00:00 BC":     "-000043-03-15T00:00:00Z",
		"0001-12-31T23:00:00-02:00 BC":     "0001-01-01T01:00:00Z",
		"12345-06-07T00:00:00.1234+00:00":  "+012345-06-07T00:00:00.1234Z",
		"2024-01-01T00:00:00.1234567Z":     "2024-01-01T00:00:00.123457Z",
		"2024-01-01T23:59:59.9999999Z":     "2024-01-02T00:00:00Z",
		"infinity":                         "infinity",
		"1900-01-01T00:00:00+00:19:32":     "1899-12-31T23:40:28Z",
		"-000043-03-15T00:00:00Z":          "-000043-03-15T00:00:00Z",
		"4714-11-24T00:00:00+00:00 BC":     "-004713-11-24T00:00:00Z",
		"294276-12-31T23:59:59.999999Z":    "+294276-12-31T23:59:59.999999Z",
		"2024-02-29 12:00+05":              "2024-02-29T07:00:00Z",
		"2024-06-30T24:00:00Z":             "2024-07-01T00:00:00Z",
		"2024-06-30T24:00:01Z":             "",
		"2023-02-29T00:00:00Z":             "",
		"2024-01-01T00:00:00":              "",
		"2024-01-01":                       "",
		"294277-01-01T00:00:00Z":           "",
		"4714-11-23T23:59:59+00:00 BC":     "",
		"99999999999-01-01T00:00:00Z":      "",
		"2024-01-01T00:00:00+":             "",
		"2024-01-01T00:00:00+01:":          "",
		"2024-01-01T00:00:00+16:00":        "",
		"2024-1-1T00:00:00Z":               "",
		"2024-01-01T00:00:00.Z":            "",
		"20240101T000000Z":                 "",
		"+5874897-12-31T00:00:00.000000Z":  "",
		"-5874897-12-31T00:00:00.000000Z":  "",
		"2024-01-01T00:00:00+00:00:00:00":  "",
		"2024-01-01T00:00:00.1234567+01BC": "",
	} {
		got, ok := AppendISO(nil, []byte(text), TimestampTZ)
		if ok != (want != "") || string(got) != want {
			t.Errorf("%s is %q %t, want %q", text, got, ok, want)
		}
	}
}

func TestIntervals(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"1 year 2 mons 3 days 04:05:06.789":  "P1Y2M3DT4H5M6.789S",
		"-1 years -2 mons +3 days -04:05:06": "P-1Y-2M3DT-4H-5M-6S",
		"00:00:00":                           "PT0S",
		"1 mon":                              "P1M",
		"-00:00:00.5":                        "PT-0.5S",
		"1000:00:00":                         "PT1000H",
		"P2W":                                "P14D",
		"-P1DT2H":                            "P-1DT-2H",
		"PT36H":                              "PT36H",
		"P1Y2M3DT4H5M6.789S":                 "P1Y2M3DT4H5M6.789S",
		"infinity":                           "infinity",
		"PT0.0000001S":                       "PT0S",
		"P":                                  "",
		"PT":                                 "",
		"P1H":                                "",
		"P1.5D":                              "",
		"":                                   "",
		"1":                                  "",
		"P99999999999Y":                      "",
		"PT9999999999999999H":                "",
		"1 day 1 fortnight":                  "",
		"00:00:00 1 day":                     "",
	} {
		got, ok := AppendDuration(nil, []byte(text))
		if ok != (want != "") || string(got) != want {
			t.Errorf("%s is %q %t, want %q", text, got, ok, want)
		}
	}
}

func TestValuesThatAreNone(t *testing.T) {
	t.Parallel()
	enum := &catalog.Type{Schema: "public", Name: "mood", Kind: catalog.Enum, Labels: []string{"ok"}}
	for _, c := range []struct {
		typ  *catalog.Type
		bad  []string
		good []string
	}{
		{builtin("bool"), []string{"", "yes", "1"}, []string{"true", "false"}},
		{builtin("int4"), []string{"", "1.0", "x", "9223372036854775808"}, []string{"1", "-1"}},
		{builtin("float8"), []string{"", "1e400", "0x1p-2", "1_0", "1e-400", "+1"}, []string{"1e300", "NaN", "-Infinity", "0e-400"}},
		{builtin("float4"), []string{"1e300", "1e-60"}, []string{"1e30", "0.1"}},
		{builtin("numeric"), []string{"1e200000", "1e-20000", "abc"}, []string{"1e1000", "-0.5"}},
		{builtin("text"), []string{"a\x00"}, []string{"", "ä"}},
		{builtin("uuid"), []string{"", "a0eebc99-9c0b-4ef8-bb6d", "g0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"}, []string{"a0eebc999c0b4ef8bb6d6bb9bd380a11"}},
		{builtin("bytea"), []string{"", "61", `\x6`, `\xAB`}, []string{`\x`, `\x61`}},
		{builtin("date"), []string{"2024-13-01", "2024-01-01T00:00:00", "4714-11-23 BC"}, []string{"2024-01-01", "infinity"}},
		{enum, []string{"bad", ""}, []string{"ok"}},
	} {
		col := NewColumn("c", 0, c.typ)
		for _, s := range c.bad {
			if _, err := col.ParseValue(s); err == nil {
				t.Errorf("%q is taken for a %s", s, c.typ.Name)
			}
		}
		for _, s := range c.good {
			if _, err := col.ParseValue(s); err != nil {
				t.Errorf("%q is no %s: %v", s, c.typ.Name, err)
			}
		}
	}
}

// FuzzEval holds that no image makes a predicate panic.
func FuzzEval(f *testing.F) {
	var preds []*Predicate
	for i, k := range columns(18) {
		c := NewColumn("c", 0, k.typ)
		preds = append(preds, IsNull(c))
		v := k.values.Example(i)
		switch c.Class {
		case JSON, JSONB:
		case Array:
			v := value(f, c.Elem, v)
			preds = append(preds, Has(c, v), HasAny(c, []Value{v}), HasAll(c, []Value{v}), IsEmpty(c))
		case Range, MultiRange:
			preds = append(preds, Contains(c, value(f, c.Elem, v)), IsEmpty(c))
		default:
			v := value(f, c, v)
			preds = append(preds, Compare(c, Lt, v), In(c, []Value{v}))
		}
	}
	text, doc := NewColumn("c", 0, builtin("text")), NewColumn("c", 0, builtin("jsonb"))
	for _, pattern := range []string{"%a_b%", "a%", "%", ""} {
		p, err := Like(text, pattern, true)
		if err != nil {
			f.Fatal(err)
		}
		preds = append(preds, p)
	}
	for _, v := range []any{nil, json.Number("1"), "a", []any{"a", nil}, map[string]any{"a": json.Number("1"), "b": []any{}}} {
		d, err := JSONValue(v)
		if err != nil {
			f.Fatal(err)
		}
		eq, _ := JSONCompare(doc, []string{"a", "-1"}, Eq, d)
		key, _ := JSONHasKey(doc, nil, "a")
		preds = append(preds, JSONContains(doc, nil, d), JSONContains(doc, []string{"0"}, d), eq, key, JSONIsNull(doc, []string{"1"}))
	}
	for _, seed := range []string{`1`, `"a"`, `null`, `[1,[2,null]]`, `{"a":{"b":[1]}}`, `"[1,2)"`, `"{[1,2),[3,4)}"`, `"\\x61"`, `"2024-01-01T00:00:00+00:00"`, `"1 mon"`, `"\u00`, `"\"`, `[`, `{"a"`, `-`, `"P1`, `"(,\"a\"\"b\"]"`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var row change.Row
		if row.Parse(append(append([]byte(`{"c":`), raw...), '}')) != nil {
			return
		}
		for _, p := range preds {
			p.Eval(&row)
		}
	})
}
