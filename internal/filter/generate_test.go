package filter

import (
	"encoding/json"
	"fmt"
	"strings"

	"pgregory.net/rapid"

	"github.com/notifyql/notifyql/internal/catalog"
)

// kindOfColumn is a column of the property test: its type, and texts that are values of it, for rows and for filters.
type kindOfColumn struct {
	name, sql string
	typ       *catalog.Type
	values    *rapid.Generator[string]
}

func builtin(name string) *catalog.Type {
	return &catalog.Type{Schema: "pg_catalog", Name: name, Kind: catalog.Base}
}

func columns(version int) []kindOfColumn {
	from := func(texts []string) *rapid.Generator[string] { return rapid.SampledFrom(texts) }
	words := rapid.Custom(func(t *rapid.T) string {
		parts := rapid.SliceOfN(from([]string{"a", "A", "b", "ä", "Ä", "z", " ", `"`, `\`, "\n", "\x01", "/", "𝄞", "%", "_", "é", "_a"}), 0, 4).Draw(t, "parts")
		return strings.Join(parts, "")
	})
	integers := from([]string{"0", "1", "-1", "2", "10", "9", "127", "32767", "-32768"})
	bigs := rapid.OneOf(integers, from([]string{"9223372036854775807", "-9223372036854775808", "9007199254740993", "9007199254740992"}))
	numerics := rapid.OneOf(integers, rapid.Custom(func(t *rapid.T) string {
		return fmt.Sprintf("%s%d.%s", from([]string{"", "-"}).Draw(t, "sign"), rapid.IntRange(0, 12).Draw(t, "whole"), from([]string{"0", "00", "5", "50", "05", "000000000000000000001", "49999999999999999999"}).Draw(t, "fraction"))
	}), from([]string{"NaN", "1e20", "1e-20", "1e-1", "0.1", "5e-2", "0.05", "50e-2", "123456789012345678901234567890", "100000000000000000000"}))
	if version >= 14 {
		numerics = rapid.OneOf(numerics, from([]string{"Infinity", "-Infinity"}))
	}
	floats := from([]string{"0", "-0", "1", "-1", "0.1", "0.5", "NaN", "Infinity", "-Infinity", "1e30", "1.5e-30", "3.4028235e38", "0.30000001", "16777217", "16777216"})
	doubles := rapid.OneOf(floats, from([]string{"1e308", "5e-324", "0.1", "0.30000000000000004", "9007199254740993"}))
	uuids := from([]string{"00000000-0000-0000-0000-000000000000", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "ffffffff-ffff-ffff-ffff-ffffffffffff", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"})
	dates := from([]string{"2024-02-29", "2000-01-01", "1999-12-31", "0044-03-15 BC", "0001-01-01", "0001-12-31 BC", "infinity", "-infinity", "12345-06-07", "5874897-12-31", "4714-11-24 BC"})
	clock := from([]string{"00:00:00", "12:34:56", "12:34:56.7", "23:59:59.999999", "12:34:56.000001"})
	times := rapid.OneOf(clock, from([]string{"24:00:00"}))
	stamps := rapid.OneOf(from([]string{"infinity", "-infinity", "294276-12-31 23:59:59.999999", "4714-11-24 00:00:00 BC"}), rapid.Custom(func(t *rapid.T) string {
		day := from([]string{"2024-02-29", "2000-01-01", "1999-12-31", "0044-03-15", "1900-01-01", "12345-06-07"}).Draw(t, "day")
		if day[4] != '-' || day == "2024-02-29" {
			return day + " " + clock.Draw(t, "time")
		}
		return day + " " + clock.Draw(t, "time") + from([]string{"", "", "", " BC"}).Draw(t, "era")
	}))
	zoned := rapid.Custom(func(t *rapid.T) string {
		s := stamps.Draw(t, "stamp")
		if strings.HasSuffix(s, "infinity") || strings.HasPrefix(s, "294276") || strings.HasPrefix(s, "4714") {
			if strings.HasSuffix(s, " BC") {
				return strings.TrimSuffix(s, " BC") + "+00 BC"
			} else if !strings.HasSuffix(s, "infinity") {
				return s + "+00"
			}
			return s
		}
		zone := from([]string{"+00", "+05:30", "-02:30", "+00:19:32", "-12"}).Draw(t, "zone")
		if bc, ok := strings.CutSuffix(s, " BC"); ok {
			return bc + zone + " BC"
		}
		return s + zone
	})
	intervals := from([]string{"P1M", "P30D", "PT720H", "P1Y2M3DT4H5M6.5S", "P1D", "PT24H", "P-1D", "P1DT-24H", "PT0S", "PT0.000001S", "PT-0.5S", "P-1Y2M", "P100Y", "PT1000H", "P2W"})
	if version >= 17 {
		intervals = rapid.OneOf(intervals, from([]string{"infinity", "-infinity"}))
	}
	bytea := from([]string{`\x`, `\x00`, `\xff`, `\x00ff`, `\xdeadbeef`, `\x61`})
	inets := from([]string{"10.0.0.1", "10.0.0.0/8", "::1", "2001:db8::/32"})
	documents := from([]string{
		`null`, `{}`, `[]`, `1`, `1.0`, `"a"`, `true`, `{"a": 1}`, `{"a": 1.0, "b": [1, 2, {"c": null}]}`, `{"b": [2, 1]}`,
		`[1, [2, 3], "a"]`, `[[2]]`, `["a", "b"]`, `{"a": {"b": {"c": "x"}}}`, `{"a": {"b": 12345678901234567890.5}}`, `{"a": "ä\n\"\\"}`,
		`{"0": "zero"}`, `[{"a": 1}, {"a": 2}]`, `{"a": null}`, `{"a": false}`, `{"ä\"": 1}`, `-0`, `1e3`, `{"a": [1, 2]}`, `{"a": ["x"]}`, `{"a": "x"}`,
	})
	enum := &catalog.Type{Schema: "public", Name: "mood", Kind: catalog.Enum, Labels: []string{"sad", "ok", `so "so"`, "Happy"}}
	moods := from(enum.Labels)
	domain := func(elem *catalog.Type, name string) *catalog.Type {
		return &catalog.Type{Schema: "public", Name: name, Kind: catalog.Domain, Elem: elem}
	}
	array := func(elem *catalog.Type) *catalog.Type {
		return &catalog.Type{Schema: elem.Schema, Name: "_" + elem.Name, Kind: catalog.Array, Elem: elem}
	}
	ranged := func(name string, elem *catalog.Type) *catalog.Type {
		return &catalog.Type{Schema: "pg_catalog", Name: name, Kind: catalog.Range, Elem: elem}
	}
	cols := []kindOfColumn{
		{"bool", "bool", builtin("bool"), from([]string{"true", "false"})},
		{"int2", "int2", builtin("int2"), integers},
		{"int4", "int4", builtin("int4"), integers},
		{"int8", "int8", builtin("int8"), bigs},
		{"oid", "oid", builtin("oid"), from([]string{"0", "1", "4294967295"})},
		{"float4", "float4", builtin("float4"), floats},
		{"float8", "float8", builtin("float8"), doubles},
		{"numeric", "numeric", builtin("numeric"), numerics},
		{"money", "numeric(30,2)", builtin("numeric"), from([]string{"1.50", "1.5", "0", "-3.25", "12345678901234567890.12"})},
		{"text", "text", builtin("text"), words},
		{"folded", "text collate folded", builtin("text"), words},
		{"varchar", "varchar(4)", builtin("varchar"), words},
		{"char", "char(5)", builtin("bpchar"), words},
		{"na\"me", "name", builtin("name"), words},
		{"uuid", "uuid", builtin("uuid"), uuids},
		{"date", "date", builtin("date"), dates},
		{"time", "time", builtin("time"), times},
		{"timestamp", "timestamp", builtin("timestamp"), stamps},
		{"timestamptz", "timestamptz", builtin("timestamptz"), zoned},
		{"interval", "interval", builtin("interval"), intervals},
		{"bytea", "bytea", builtin("bytea"), bytea},
		{"inet", "inet", builtin("inet"), inets},
		{"mood", "mood", enum, moods},
		{"positive", "positive", domain(builtin("int4"), "positive"), from([]string{"1", "2", "10"})},
		{"label", "label", domain(builtin("text"), "label"), words},
		{"moody", "moody", domain(enum, "moody"), moods},
		{"jsonb", "jsonb", builtin("jsonb"), documents},
		{"json", "json", builtin("json"), documents},
		{"ints", "int4[]", array(builtin("int4")), integers},
		{"bigs", "int8[]", array(builtin("int8")), bigs},
		{"texts", "text[]", array(builtin("text")), words},
		{"varchars", "varchar[]", array(builtin("varchar")), words},
		{"numerics", "numeric[]", array(builtin("numeric")), numerics},
		{"moods", "mood[]", array(enum), moods},
		{"stamps", "timestamptz[]", array(builtin("timestamptz")), zoned},
		{"floats", "float8[]", array(builtin("float8")), doubles},
		{"int4range", "int4range", ranged("int4range", builtin("int4")), integers},
		{"numrange", "numrange", ranged("numrange", builtin("numeric")), from([]string{"1", "1.0", "2.5", "-3", "10", "0"})},
		{"tsrange", "tsrange", ranged("tsrange", builtin("timestamp")), stamps},
		{"tstzrange", "tstzrange", ranged("tstzrange", builtin("timestamptz")), zoned},
		{"daterange", "daterange", ranged("daterange", builtin("date")), from([]string{"2024-02-29", "2000-01-01", "1999-12-31", "0044-03-15 BC", "infinity"})},
	}
	if version >= 14 {
		multi := &catalog.Type{Schema: "pg_catalog", Name: "int4multirange", Kind: catalog.MultiRange, Elem: ranged("int4range", builtin("int4"))}
		cols = append(cols, kindOfColumn{"int4multirange", "int4multirange", multi, integers})
	}
	return cols
}

// literal draws the text of a value, of an array or of a range.
func (k *kindOfColumn) literal(t *rapid.T) string {
	switch k.typ.Kind {
	case catalog.Array:
		var b strings.Builder
		b.WriteByte('{')
		for i, n := 0, rapid.IntRange(0, 3).Draw(t, "length"); i < n; i++ {
			if i > 0 {
				b.WriteByte(',')
			}
			if rapid.IntRange(0, 5).Draw(t, "null") == 0 {
				b.WriteString("NULL")
				continue
			}
			b.WriteString(`"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(k.values.Draw(t, "element")) + `"`)
		}
		b.WriteByte('}')
		if rapid.IntRange(0, 9).Draw(t, "nested") == 0 && b.Len() > 2 {
			return "{" + b.String() + "," + b.String() + "}"
		}
		return b.String()
	case catalog.Range:
		return k.oneRange(t)
	case catalog.MultiRange:
		// Of two ranges, unordered and overlapping as they may be.
		return "{" + k.oneRange(t) + "," + k.oneRange(t) + "}"
	}
	return k.values.Draw(t, "value")
}

func (k *kindOfColumn) oneRange(t *rapid.T) string {
	if rapid.IntRange(0, 6).Draw(t, "empty") == 0 {
		return "empty"
	}
	bound := func(name string) string {
		if rapid.IntRange(0, 4).Draw(t, "open") == 0 {
			return ""
		}
		return `"` + k.values.Draw(t, name) + `"`
	}
	return rapid.SampledFrom([]string{"[", "("}).Draw(t, "from") + bound("lower") + "," + bound("upper") + rapid.SampledFrom([]string{"]", ")"}).Draw(t, "to")
}

// predicate draws a filter.
func predicate(t *rapid.T, kinds []kindOfColumn, cols []*Column, depth int) *Predicate {
	if depth > 0 {
		switch rapid.IntRange(0, 5).Draw(t, "node") {
		case 0, 1:
			n := rapid.IntRange(0, 3).Draw(t, "kids")
			kids := make([]*Predicate, n)
			for i := range kids {
				kids[i] = predicate(t, kinds, cols, depth-1)
			}
			if rapid.Bool().Draw(t, "or") {
				return Or(kids...)
			}
			return And(kids...)
		case 2:
			return Not(predicate(t, kinds, cols, depth-1))
		}
	}
	i := rapid.IntRange(0, len(cols)-1).Draw(t, "column")
	if rapid.IntRange(0, 9).Draw(t, "null") == 0 {
		return IsNull(cols[i])
	}
	return leaf(t, &kinds[i], cols[i])
}

func leaf(t *rapid.T, k *kindOfColumn, c *Column) *Predicate {
	op := Op(rapid.IntRange(0, 5).Draw(t, "op"))
	parse := func(c *Column) Value {
		text := k.values.Draw(t, "want")
		v, err := c.ParseValue(text)
		if err != nil {
			t.Fatalf("%s: %q: %v", k.name, text, err)
		}
		return v
	}
	several := func(c *Column) []Value {
		vs := make([]Value, rapid.IntRange(0, 3).Draw(t, "count"))
		for i := range vs {
			vs[i] = parse(c)
		}
		return vs
	}
	switch c.Class {
	case JSON:
		return IsNull(c)
	case JSONB:
		return jsonLeaf(t, k, c, op)
	case Array:
		switch rapid.IntRange(0, 3).Draw(t, "array") {
		case 0:
			return HasAny(c, several(c.Elem))
		case 1:
			return HasAll(c, several(c.Elem))
		case 2:
			return IsEmpty(c)
		}
		return Has(c, parse(c.Elem))
	case Range, MultiRange:
		if rapid.IntRange(0, 4).Draw(t, "range") == 0 {
			return IsEmpty(c)
		}
		return Contains(c, parse(c.Elem))
	case Text, Char:
		if rapid.Bool().Draw(t, "pattern") {
			pattern := strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"%", "%", "_", "a", "A", "ä", "Z", `\%`, `\\`, `"`, " ", "𝄞", "\n", "_a"}), 0, 5).Draw(t, "pattern"), "")
			if rapid.Bool().Draw(t, "literal") {
				pattern = "%" + Literal(k.values.Draw(t, "inside")) + "%"
			}
			p, err := Like(c, pattern, rapid.Bool().Draw(t, "fold"))
			if err != nil {
				t.Fatal(err)
			}
			return p
		}
	}
	if rapid.IntRange(0, 3).Draw(t, "in") == 0 {
		return In(c, several(c))
	}
	if c.Class == Opaque {
		op %= 2
	}
	return Compare(c, op, parse(c))
}

func jsonLeaf(t *rapid.T, k *kindOfColumn, c *Column, op Op) *Predicate {
	var v any
	d := json.NewDecoder(strings.NewReader(k.values.Draw(t, "want")))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	value, err := JSONValue(v)
	if err != nil {
		t.Fatal(err)
	}
	path := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c", "0", "-1", "1", " 1", "+0", "x", `ä"`, "-9"}), 0, 3).Draw(t, "path")
	switch rapid.IntRange(0, 3).Draw(t, "json") {
	case 0:
		return JSONContains(c, path, value)
	case 1:
		p, err := JSONHasKey(c, path, rapid.SampledFrom([]string{"a", "b", "0", `ä"`, "zz"}).Draw(t, "key"))
		if err != nil {
			t.Fatal(err)
		}
		return p
	case 2:
		return JSONIsNull(c, path)
	}
	p, err := JSONCompare(c, path, op, value)
	if err != nil {
		p, err = JSONCompare(c, path, Eq, value)
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}
