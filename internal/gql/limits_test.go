package gql

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// limitOf is the limit that a request goes beyond; empty: none.
func limitOf(t testing.TB, s *Schema, query, vars string) string {
	t.Helper()
	_, errs := s.Subscribe(Request{Query: query, Variables: []byte(vars)}, tenantA)
	var list []struct {
		Message    string
		Extensions struct {
			Code, Limit string
			Max         int
		}
	}
	if errs == nil {
		return ""
	}
	if err := json.Unmarshal(errs, &list); err != nil {
		t.Fatal(err)
	}
	e := list[0].Extensions
	if e.Code != codeLimit {
		return fmt.Sprintf("%s: %s", e.Code, list[0].Message)
	}
	if e.Max == 0 || !strings.Contains(list[0].Message, fmt.Sprint(e.Max)) {
		t.Errorf("the error does not say how much is allowed: %s", errs)
	}
	return e.Limit
}

func TestLimits(t *testing.T) {
	t.Parallel()
	s, _, err := Options{Limits: Limits{
		Bytes: 2000, Tokens: 300, Depth: 4, Fields: 40, Aliases: 5, Variables: 300, List: 6, Filter: 8, Nesting: 3, Operations: 2,
	}}.Build(shop(), []Field{{SDL: `extend type Subscription { zoo(any: Any): Zoo } type Zoo { zoo: Zoo n: Int } scalar Any`}})
	if err != nil {
		t.Fatal(err)
	}
	where := func(w string) string { return `subscription { ordersChanged(where: {` + w + `}) { kind } }` }
	for _, c := range []struct{ name, query, vars, want string }{
		{"fine", where(`quantity: {in: [1, 2, 3, 4, 5, 6]}, and: [{or: [{not: {gift: {eq: true}}}]}]`), "", ""},
		{"bytes", "subscription { ordersChanged { kind } } #" + strings.Repeat("x", 2000), "", "documentBytes"},
		{"tokens", "subscription { ordersChanged { kind } } " + strings.Repeat("} ", 300), "", "tokens"},
		{"operations", "query A { __typename } query B { __typename } query C { __typename }", "", "operations"},
		{"depth", "subscription { zoo { zoo { zoo { zoo { n } } } } }", "", "depth"},
		{"depth by fragments", "subscription { zoo { ...a } } fragment a on Zoo { zoo { ...b } } fragment b on Zoo { zoo { ...c } } fragment c on Zoo { zoo { n } }", "", "depth"},
		{"fields", "subscription { ordersChanged { " + strings.Repeat("kind ", 40) + "} }", "", "fields"},
		{"fields by fragments", "subscription { zoo { ...a ...a ...a } } fragment a on Zoo { ...b ...b ...b } fragment b on Zoo { ...c ...c } fragment c on Zoo { n n n }", "", "fields"},
		{"aliases", "subscription { ordersChanged { a: kind b: kind c: kind d: kind e: kind f: kind } }", "", "aliases"},
		{"variables", "subscription { ordersChanged { kind } }", `{"x": "` + strings.Repeat("x", 300) + `"}`, "variables"},
		{"list", where(`quantity: {in: [1, 2, 3, 4, 5, 6, 7]}`), "", "list"},
		{"list by variable", `subscription ($l: [Int!]) { ordersChanged(where: {quantity: {in: $l}}) { kind } }`, `{"l": [1, 2, 3, 4, 5, 6, 7]}`, "list"},
		{"list of filters", where(`and: [{}, {}, {}, {}, {}, {}, {}]`), "", "list"},
		{"filter", where(`quantity: {gt: 1, lt: 2, ne: 3}, note: {eq: "a", ne: "b", like: "c", gt: "d"}, gift: {eq: true, ne: false}`), "", "filter"},
		{"filter by json", where(`payload: {contains: {a: [1, 2, 3, 4], b: [1, 2, 3, 4]}}`), "", "filter"},
		{"filter by paths", where(`payload: {path: [{at: ["a"], eq: 1, ne: 2, gt: 3}, {at: ["b"], eq: 1, ne: 2, gt: 3}, {at: ["b"], eq: 1, ne: 2, gt: 3}]}`), "", "filter"},
		{"nesting", where(`not: {not: {not: {not: {gift: {eq: true}}}}}`), "", "filterNesting"},
		{"a pattern", where(`note: {like: "%` + strings.Repeat("_", 300) + `%"}`), "", "BAD_USER_INPUT: Argument \"where\" has an invalid value; at note.like: a pattern may have 256 characters between two percent signs."},
		{"anything deep", `subscription ($a: Any) { zoo(any: $a) { n } }`, `{"a": ` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`, ""},
	} {
		if got := limitOf(t, s, c.query, c.vars); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// hostile are documents made to cost more than their size, each for a size given.
var hostile = map[string]func(n int) string{
	"the same field": func(n int) string { return "subscription { ordersChanged { " + strings.Repeat("kind ", n) + "} }" },
	"fields unknown": func(n int) string {
		return "subscription { ordersChanged { " + numbered(n, "field_nobody_knows_%d ") + "} }"
	},
	"aliases": func(n int) string { return "subscription { ordersChanged { " + numbered(n, "a%d: kind ") + "} }" },
	"deep": func(n int) string {
		return "subscription { " + strings.Repeat("a { ", n) + strings.Repeat("} ", n) + "}"
	},
	"deep lists": func(n int) string {
		return "subscription { ordersChanged(where: " + strings.Repeat("[", n) + strings.Repeat("]", n) + ") { kind } }"
	},
	"deep objects": func(n int) string {
		return "subscription { ordersChanged(where: " + strings.Repeat("{not: ", n) + "{}" + strings.Repeat("}", n) + ") { kind } }"
	},
	"long lists": func(n int) string {
		return "subscription { ordersChanged(where: {quantity: {in: [" + strings.Repeat("1 ", n) + "]}}) { kind } }"
	},
	"arguments": func(n int) string {
		return "subscription { ordersChanged(" + strings.Repeat("where: {} ", n) + ") { kind } }"
	},
	"object fields": func(n int) string {
		return "subscription { ordersChanged(where: {" + strings.Repeat("quantity: {} ", n) + "}) { kind } }"
	},
	"directives": func(n int) string {
		return "subscription { ordersChanged { kind " + strings.Repeat("@skip(if: true) ", n) + "} }"
	},
	"unknown directives": func(n int) string { return "subscription { ordersChanged { kind " + strings.Repeat("@s ", n) + "} }" },
	"variables": func(n int) string {
		return "subscription (" + numbered(n, "$v%d: Int ") + ") { ordersChanged { kind } }"
	},
	"one variable": func(n int) string {
		return "subscription (" + strings.Repeat("$v: Int ", n) + ") { ordersChanged { kind } }"
	},
	"operations":       func(n int) string { return numbered(n, "query A%d { __typename } ") },
	"unused fragments": func(n int) string { return "{ __typename } " + numbered(n, "fragment f%d on Query { __typename } ") },
	"one fragment": func(n int) string {
		return "{ ...f } " + strings.Repeat("fragment f on Query { __typename } ", n)
	},
	"a chain of fragments": func(n int) string {
		return "{ ...f0 } " + chained(n, "fragment f%d on Query { ...f%d } ") + fmt.Sprintf("fragment f%d on Query { __typename }", n)
	},
	"fragments doubling": func(n int) string {
		return "{ ...f0 } " + chained(n, "fragment f%d on Query { ...f%[2]d ...f%[2]d } ") + fmt.Sprintf("fragment f%d on Query { __typename }", n)
	},
	"a circle of fragments": func(n int) string {
		return "{ ...f0 } " + chained(n, "fragment f%d on Query { ...f%d } ") + fmt.Sprintf("fragment f%d on Query { ...f0 }", n)
	},
	"circles": func(n int) string {
		return "{ ...f0 } " + chained(n, "fragment f%d on Query { ...f%d ...f0 } ") + fmt.Sprintf("fragment f%d on Query { ...f0 }", n)
	},
	"all fragments in all": func(n int) string {
		m := 1
		for m*m < n {
			m++
		}
		all := numbered(m, "...f%d ")
		return "{ ...f0 } " + numbered(m, "fragment f%d on Query { __typename "+strings.ReplaceAll(all, "%", "%%")+"} ")
	},
	"operations of one chain": func(n int) string {
		return numbered(n/2, "query A%d { ...f0 } ") + chained(n/2, "fragment f%d on Query { ...f%d } ") + fmt.Sprintf("fragment f%d on Query { __typename }", n/2)
	},
	"conflicts": func(n int) string {
		return "subscription { ordersChanged { " + strings.Repeat("x: kind x: cause ", n/2) + "} }"
	},
	"introspection": func(n int) string {
		return "{ __schema { ...f0 } } " + chained(n, "fragment f%d on __Schema { ...f%[2]d ...f%[2]d } ") + fmt.Sprintf("fragment f%d on __Schema { types { name } }", n)
	},
	"a long name":   func(n int) string { return "{ " + strings.Repeat("a", 6*n) + " }" },
	"a long string": func(n int) string { return `{ __type(name: """` + strings.Repeat("\n  a", n) + `""") { x } }` },
	"comments":      func(n int) string { return strings.Repeat("#\n", n) + "{ x }" },
	"lines":         func(n int) string { return "{ " + strings.Repeat("\nx ", n) + "}" },
}

func numbered(n int, format string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

func chained(n int, format string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format, i, i+1)
	}
	return b.String()
}

// TestHostileDocuments holds that no document takes long to refuse, be the limits ever so high: as long as the largest
// of them takes here, thousands of times its share, nothing grows with the square of the size.
func TestHostileDocuments(t *testing.T) {
	t.Parallel()
	const huge = 1 << 30
	s, _, err := Options{Limits: Limits{Bytes: huge, Tokens: huge, Depth: 900, Fields: 100_000, Aliases: huge, List: huge, Filter: huge, Nesting: 900, Operations: 50}}.Build(shop(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, doc := range hostile {
		query := doc(8_000)
		var errs []byte
		quickest := time.Hour // of a few tries, since others use the machine as well
		for tries := 0; quickest > 3*time.Second && tries < 5; tries++ {
			start := time.Now()
			_, errs = s.Subscribe(Request{Query: query}, tenantA)
			quickest = min(quickest, time.Since(start))
		}
		if quickest > 3*time.Second {
			t.Errorf("%s: %d bytes took at least %s to refuse", name, len(query), quickest)
		}
		if len(errs) > 100_000 {
			t.Errorf("%s: %d bytes of errors", name, len(errs))
		}
	}
}

// BenchmarkRefuse measures ns per byte at two sizes: where they are alike, the cost is linear.
func BenchmarkRefuse(b *testing.B) {
	s := build(b)
	unlimited, _, err := Options{Limits: Limits{Bytes: 1 << 30, Tokens: 1 << 30, Fields: 100_000, Aliases: 1 << 30}}.Build(shop(), nil)
	if err != nil {
		b.Fatal(err)
	}
	for _, name := range sortedKeys(hostile) {
		for _, n := range []int{500, 4000} {
			for how, schema := range map[string]*Schema{"limited": s, "unlimited": unlimited} {
				query := hostile[name](n)
				b.Run(fmt.Sprintf("%s/n=%d/%s", name, n, how), func(b *testing.B) {
					b.SetBytes(int64(len(query)))
					for b.Loop() {
						schema.Subscribe(Request{Query: query}, tenantA)
					}
				})
			}
		}
	}
}
