package change

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestRow(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ image, want string }{
		{`{}`, ``},
		{` { } `, ``},
		{
			`{"id":1,"name":"a\"}b","tags":["x","]"],"sub":{"a":{"b":"}"}},"none":null,"ok":true,"n":-1.5e+3}`,
			`id=1 name="a\"}b" tags=["x","]"] sub={"a":{"b":"}"}} none=null ok=true n=-1.5e+3`,
		},
		{"{\n \"a\" :\t1 ,\r\n\"b\": [ 1 , 2 ] }", `a=1 b=[ 1 , 2 ]`},
		{`{"a":1,"a":2}`, `a=1 a=2`},
		{`{"\u00e4\n":"ß"}`, `\u00e4\n="ß"`},
	} {
		var r Row
		if err := r.Parse([]byte(c.image)); err != nil {
			t.Errorf("%s: %v", c.image, err)
			continue
		}
		var got []string
		for i := range r.Len() {
			name, value := r.Field(i)
			got = append(got, name+"="+string(value))
		}
		if !r.Ok() || strings.Join(got, " ") != c.want {
			t.Errorf("%s: got %s", c.image, got)
		}
	}
}

func TestRowDamaged(t *testing.T) {
	t.Parallel()
	var r Row
	for _, image := range []string{
		``, ` `, `null`, `[1]`, `"a"`, `{`, `{"`, `{"a`, `{"a"`, `{"a":`, `{"a":1`, `{"a":1,`, `{"a":1,}`, `{,}`, `{a:1}`,
		`{"a" 1}`, `{"a":"x}`, `{"a":"x\`, `{"a":[1}`, `{"a":[1`, `{"a":{"b":"]}`, `{"a":}`, `{"a":1 2}`, `{"a":1}}`, `{"a":1} x`,
		`{"a":1}` + "\x00", `{} {}`,
	} {
		if err := r.Parse([]byte(image)); !errors.Is(err, ErrNoObject) {
			t.Errorf("%q: got %v", image, err)
		}
		if r.Len() != 0 {
			t.Errorf("%q: %d columns are left", image, r.Len())
		}
	}
	var none *Row
	if none.Ok() || (&Row{}).Ok() {
		t.Error("a row without an image is a row")
	}
}

func TestRowGet(t *testing.T) {
	t.Parallel()
	var r Row
	if err := r.Parse([]byte(`{"a":1,"b":2,"c":3}`)); err != nil {
		t.Fatal(err)
	}
	for _, hint := range []int{0, 1, 2, 3, 99} {
		if v, ok := r.Get("b", hint); !ok || string(v) != "2" {
			t.Errorf("hint %d: got %s, %v", hint, v, ok)
		}
		if v, ok := r.Get("d", hint); ok || v != nil {
			t.Errorf("hint %d: got %s for a column that is not there", hint, v)
		}
	}
}

// FuzzRow: on JSON objects Parse says what encoding/json says; on anything else it ends.
func FuzzRow(f *testing.F) {
	for _, image := range []string{
		`{"id":1,"name":"a\"}b","tags":["x","]"],"sub":{"a":{"b":"}"}},"none":null}`, `{"a":1,"a":2}`, `{ "a" : [ ] }`,
		`{"a":"\\"}`, `{"a":"\\\""}`, `{"":{}}`, `{"a":1`, `[{"a":1}]`, `{"a":"é"}`, `{"é":-0.0e-1}`,
	} {
		f.Add([]byte(image))
	}
	f.Fuzz(func(t *testing.T, image []byte) {
		var r Row
		err := r.Parse(image)
		if !json.Valid(image) {
			return
		}
		dec := json.NewDecoder(bytes.NewReader(image))
		if tok, _ := dec.Token(); tok != json.Delim('{') {
			if err == nil {
				t.Fatalf("%q is no object and is taken for one", image)
			}
			return
		}
		if err != nil {
			t.Fatalf("%q: %v", image, err)
		}
		i := 0
		for ; dec.More(); i++ {
			name, _ := dec.Token()
			var value json.RawMessage
			if err := dec.Decode(&value); err != nil {
				return // encoding/json ends at a depth that we do not
			}
			if i >= r.Len() {
				t.Fatalf("%q: %d columns only", image, r.Len())
			}
			key, got := r.Field(i)
			var unescaped string
			if err := json.Unmarshal([]byte(`"`+key+`"`), &unescaped); err != nil || unescaped != name {
				t.Fatalf("%q: column %d is %q (%v), want %q", image, i, key, err, name)
			}
			if !bytes.Equal(got, value) {
				t.Fatalf("%q: column %d is %q, want %q", image, i, got, value)
			}
		}
		if i != r.Len() {
			t.Fatalf("%q: %d columns, want %d", image, r.Len(), i)
		}
	})
}

// image is a row as row_to_json writes it, with the usual mix of types.
func image(columns int) []byte {
	var b strings.Builder
	for i := range columns {
		sep := ','
		if i == 0 {
			sep = '{'
		}
		fmt.Fprintf(&b, "%c\"column_%d\":", sep, i)
		b.WriteString([]string{
			"12345", `"paid"`, `"2024-05-01T12:34:56.789012+00:00"`, "null", `"a text of some length, as names and addresses are"`,
			"true", `"8b3e2c1a-7f5d-4e6b-9a0c-1d2e3f4a5b6c"`, "199.95", `{"a": [1, 2, {"b": "c"}], "d": "e"}`, `["x","y"]`,
		}[i%10])
	}
	b.WriteByte('}')
	return []byte(b.String())
}

func BenchmarkRowParse(b *testing.B) {
	for _, columns := range []int{1, 10, 40} {
		b.Run(fmt.Sprint(columns), func(b *testing.B) {
			img := image(columns)
			var r Row
			b.SetBytes(int64(len(img)))
			b.ReportAllocs()
			for b.Loop() {
				if err := r.Parse(img); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func TestRowParseAllocatesNothing(t *testing.T) {
	img := image(40)
	var r Row
	if err := r.Parse(img); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { _ = r.Parse(img) }); n != 0 {
		t.Errorf("%v allocations to parse a row anew", n)
	}
}
