package filter

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// document is a client's JSON value as jsonb has it: keys unique and sorted, numbers exact.
type document struct {
	kind  byte // n null, b boolean, d number, s string, a array, o object
	truth bool
	dec   decimal
	text  []byte
	list  []*document
	keys  [][]byte // of list, for an object
}

// errNoJSONB is what Postgres would say too.
var errNoJSONB = errors.New("no value of jsonb")

// newDocument takes a value as encoding/json decodes it, numbers as json.Number.
func newDocument(v any) (*document, error) {
	switch v := v.(type) {
	case nil:
		return &document{kind: 'n'}, nil
	case bool:
		return &document{kind: 'b', truth: v}, nil
	case json.Number:
		d, ok := parseDecimal([]byte(v))
		if !ok || !d.fits() {
			return nil, fmt.Errorf("%.40s is out of range: %w", v, errNoJSONB)
		}
		return &document{kind: 'd', dec: d}, nil
	case string:
		if strings.IndexByte(v, 0) >= 0 {
			return nil, fmt.Errorf("a string with a NUL character: %w", errNoJSONB)
		}
		return &document{kind: 's', text: []byte(v)}, nil
	case []any:
		d := &document{kind: 'a'}
		for _, e := range v {
			kid, err := newDocument(e)
			if err != nil {
				return nil, err
			}
			d.list = append(d.list, kid)
		}
		return d, nil
	case map[string]any:
		d := &document{kind: 'o'}
		for _, k := range slices.Sorted(maps.Keys(v)) {
			d.keys = append(d.keys, []byte(k))
			kid, err := newDocument(v[k])
			if err == nil && strings.IndexByte(k, 0) >= 0 {
				err = fmt.Errorf("a key with a NUL character: %w", errNoJSONB)
			}
			if err != nil {
				return nil, err
			}
			d.list = append(d.list, kid)
		}
		return d, nil
	}
	return nil, errNoJSONB
}

// kindOf tells what raw JSON is by its first byte.
func kindOf(raw []byte) byte {
	switch raw[0] {
	case '{':
		return 'o'
	case '[':
		return 'a'
	case '"':
		return 's'
	case 't', 'f':
		return 'b'
	case 'n':
		return 'n'
	}
	return 'd'
}

func (d *document) scalar() bool { return d.kind != 'a' && d.kind != 'o' }

// equals compares raw JSON, as Postgres writes jsonb, with the document.
func (d *document) equals(raw []byte) bool {
	if kindOf(raw) != d.kind {
		return false
	}
	switch d.kind {
	case 'b':
		return (raw[0] == 't') == d.truth
	case 'd':
		got, ok := parseDecimal(raw)
		return ok && got.compare(d.dec) == 0
	case 's':
		return isString(raw) && compareText(raw[1:len(raw)-1], d.text, false) == 0
	case 'a':
		i := 0
		for e := NewElements(raw); e.Next(); i++ {
			if i == len(d.list) || !d.list[i].equals(e.Value) {
				return false
			}
		}
		return i == len(d.list)
	case 'o':
		n := 0
		for m := NewMembers(raw); m.Next(); {
			n++
		}
		return n == len(d.list) && d.containedIn(raw, (*document).equals)
	}
	return true
}

// containedIn reports whether raw, an object, has all the document's keys with values that pass.
func (d *document) containedIn(raw []byte, pass func(*document, []byte) bool) bool {
	for i, key := range d.keys {
		v, ok := member(raw, key)
		if !ok || !pass(d.list[i], v) {
			return false
		}
	}
	return true
}

// contained is jsonb's @>, raw on the left. At the top an array also contains a scalar that it has.
func (d *document) contained(raw []byte, top bool) bool {
	kind := kindOf(raw)
	if top && kind == 'a' && d.scalar() {
		return d.among(raw)
	}
	if kind != d.kind {
		return false
	}
	switch kind {
	case 'o':
		return d.containedIn(raw, func(kid *document, v []byte) bool { return kid.contained(v, false) })
	case 'a':
		for _, kid := range d.list {
			if !kid.among(raw) {
				return false
			}
		}
		return true
	}
	return d.equals(raw)
}

// among reports whether raw, an array, has an element that contains the document.
func (d *document) among(raw []byte) bool {
	for e := NewElements(raw); e.Next(); {
		if kindOf(e.Value) == d.kind && d.contained(e.Value, false) {
			return true
		}
	}
	return false
}

// member finds a key's value in raw, an object.
func member(raw, key []byte) ([]byte, bool) {
	for m := NewMembers(raw); m.Next(); {
		if compareText(m.Key[1:len(m.Key)-1], key, false) == 0 {
			return m.Value, true
		}
	}
	return nil, false
}
