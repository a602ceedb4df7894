package gql

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strconv"
	"strings"

	"github.com/notifyql/notifyql/internal/filter"
)

// value is a coerced value as a column's type, or its elements', has it.
func (c *column) value(f *filter.Column, v any) (filter.Value, *badInput) {
	var text string
	switch v := v.(type) {
	case bool:
		text = strconv.FormatBool(v)
	case int:
		text = strconv.Itoa(v)
	case float64:
		text = strconv.FormatFloat(v, 'g', -1, 64)
		if f.Class == filter.Int { // a column shown as a number
			text = strconv.FormatFloat(v, 'f', -1, 64)
		}
	case string:
		text = v
		switch {
		case f.Class == filter.Enum && c.enum != nil:
			text = c.enum.labels[v]
		case f.Class == filter.Bytea:
			b, err := base64.StdEncoding.DecodeString(v)
			if err != nil {
				return filter.Value{}, &badInput{want: "expected base64"}
			}
			text = `\x` + hex.EncodeToString(b)
		}
	default:
		return filter.Value{}, &badInput{want: "expected a value, not null"}
	}
	got, err := f.ParseValue(text)
	if err != nil {
		return got, &badInput{want: err.Error()}
	}
	return got, nil
}

func (c *column) values(f *filter.Column, v any) ([]filter.Value, *badInput) {
	list, ok := v.([]any)
	if !ok {
		return nil, &badInput{want: "expected a list, not null"}
	}
	vs := make([]filter.Value, len(list))
	for i, one := range list {
		var bad *badInput
		if vs[i], bad = c.value(f, one); bad != nil {
			return nil, within(i, bad)
		}
	}
	return vs, nil
}

// json compiles the operators of jsonb, about the whole document or what is at a path.
func (w *where) json(c *filter.Column, name string, path []string, v any) (*filter.Predicate, *badInput) {
	switch name {
	case "path":
		return w.jsonPaths(c, v)
	case "hasKey":
		key, ok := v.(string)
		if !ok {
			return nil, &badInput{want: "expected a string, not null"}
		}
		return orBad(filter.JSONHasKey(c, path, key))
	}
	if v == nil {
		return nil, &badInput{want: "expected a value, not null; JSON's null counts as NULL, for which there is isNull"}
	}
	if bad := w.spend(jsonSize(v) - 1); bad != nil {
		return nil, bad
	}
	got, err := filter.JSONValue(v)
	if err != nil {
		return nil, &badInput{want: err.Error()}
	}
	if name == "contains" {
		return filter.JSONContains(c, path, got), nil
	}
	return orBad(filter.JSONCompare(c, path, comparisons[name], got))
}

func orBad(p *filter.Predicate, err error) (*filter.Predicate, *badInput) {
	if err != nil {
		return nil, &badInput{want: err.Error()}
	}
	return p, nil
}

// jsonSize is how many values a JSON value is made of: each is compared.
func jsonSize(v any) int {
	n := 1
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			n += jsonSize(e)
		}
	case map[string]any:
		for _, e := range v {
			n += jsonSize(e)
		}
	}
	return n
}

func (w *where) jsonPaths(c *filter.Column, v any) (*filter.Predicate, *badInput) {
	list, ok := v.([]any)
	if !ok {
		return nil, &badInput{want: "expected a list, not null"}
	}
	var all []*filter.Predicate
	for i, one := range list {
		ops, _ := one.(map[string]any)
		path, err := jsonPath(ops["at"])
		if err != nil {
			return nil, within(i, &badInput{at: []any{"at"}, want: err.Error()})
		}
		for _, name := range sortedKeys(ops) {
			if name == "at" {
				continue
			}
			if bad := w.spend(1); bad != nil {
				return nil, within(i, bad)
			}
			p, bad := w.atPath(c, name, path, ops[name])
			if bad != nil {
				return nil, within(i, within(name, bad))
			}
			all = append(all, p)
		}
	}
	return filter.And(all...), nil
}

func (w *where) atPath(c *filter.Column, name string, path []string, v any) (*filter.Predicate, *badInput) {
	if name != "isNull" {
		return w.json(c, name, path, v)
	}
	null, ok := v.(bool)
	if !ok {
		return nil, &badInput{want: "expected true or false, not null"}
	}
	p := filter.JSONIsNull(c, path)
	if !null {
		p = filter.Not(p)
	}
	return p, nil
}

// maxPath is the most steps of a path.
const maxPath = 32

func jsonPath(v any) ([]string, error) {
	list, _ := v.([]any)
	if len(list) > maxPath {
		return nil, errors.New("a path may have 32 steps")
	}
	path := make([]string, len(list))
	for i, s := range list {
		path[i], _ = s.(string)
		if strings.IndexByte(path[i], 0) >= 0 {
			return nil, errors.New("text in Postgres cannot hold a NUL character")
		}
	}
	return path, nil
}
