package change

import (
	"errors"
	"fmt"
	"slices"
)

// Row is an image taken apart: the raw JSON text of each top-level value, in the order of the image. It points into the
// image and owns nothing. A zero Row is no row.
type Row struct {
	fields []field
}

type field struct {
	key   string // as written between the quotes, escapes left in
	value []byte
}

// ErrNoObject is returned for an image that is not one JSON object.
var ErrNoObject = errors.New("image is not a JSON object")

// Ok reports whether there is a row.
func (r *Row) Ok() bool { return r != nil && r.fields != nil }

// Len is the number of columns.
func (r *Row) Len() int { return len(r.fields) }

// Field returns the i-th column's name, JSON escapes left in, and its raw JSON value.
func (r *Row) Field(i int) (string, []byte) { return r.fields[i].key, r.fields[i].value }

// Get returns the raw JSON value of the column with this name (JSON-escaped as in the image: for all usual names, the
// name itself). hint is where it is looked for first: its place in the image when no column is missing.
func (r *Row) Get(name string, hint int) ([]byte, bool) {
	if hint < len(r.fields) && r.fields[hint].key == name {
		return r.fields[hint].value, true
	}
	for i := range r.fields {
		if r.fields[i].key == name {
			return r.fields[i].value, true
		}
	}
	return nil, false
}

// Parse takes an image apart, reusing r's memory. The image comes from the database, but a log can be damaged: whatever
// the bytes, Parse ends, and an error says where it stopped. After an error the row has no columns.
func (r *Row) Parse(image []byte) error {
	err := r.parse(image)
	if err != nil {
		r.fields = r.fields[:0]
	}
	return err
}

func (r *Row) parse(image []byte) error {
	r.fields = r.fields[:0]
	if r.fields == nil {
		r.fields = make([]field, 0, 16)
	}
	i := skipSpace(image, 0)
	if i >= len(image) || image[i] != '{' {
		return ErrNoObject
	}
	i = skipSpace(image, i+1)
	if i < len(image) && image[i] == '}' {
		return end(image, i+1)
	}
	for {
		if i >= len(image) || image[i] != '"' {
			return at(i)
		}
		after := skipString(image, i)
		if after < 0 {
			return at(i)
		}
		key := image[i+1 : after-1]
		i = skipSpace(image, after)
		if i >= len(image) || image[i] != ':' {
			return at(i)
		}
		i = skipSpace(image, i+1)
		after = skipValue(image, i)
		if after < 0 {
			return at(i)
		}
		r.fields = append(r.fields, field{key: text(key), value: image[i:after]})
		i = skipSpace(image, after)
		if i >= len(image) {
			return at(i)
		}
		switch image[i] {
		case ',':
			i = skipSpace(image, i+1)
		case '}':
			return end(image, i+1)
		default:
			return at(i)
		}
	}
}

func at(i int) error { return fmt.Errorf("image breaks off at byte %d: %w", i, ErrNoObject) }

// end checks that nothing follows the object that ends before i.
func end(image []byte, i int) error {
	if i = skipSpace(image, i); i < len(image) {
		return at(i)
	}
	return nil
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// skipString returns the place after the string that starts at i, or -1.
func skipString(b []byte, i int) int {
	for i++; i < len(b); i++ {
		switch b[i] {
		case '"':
			return i + 1
		case '\\':
			i++
		}
	}
	return -1
}

// skipValue returns the place after the value that starts at i, or -1. It follows brackets and strings and does not
// check the rest: the database wrote it.
func skipValue(b []byte, i int) int {
	if i >= len(b) {
		return -1
	}
	switch b[i] {
	case '"':
		return skipString(b, i)
	case '{', '[':
		depth := 0
		for i < len(b) {
			switch b[i] {
			case '"':
				if i = skipString(b, i); i < 0 {
					return -1
				}
				continue
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
			i++
		}
		return -1
	}
	start := i
	for i < len(b) && b[i] != ',' && b[i] != '}' && b[i] != ']' && b[i] > ' ' {
		i++
	}
	if i == start {
		return -1
	}
	return i
}

// Clone returns a copy that a later Parse of r does not touch. Both point into the same image.
func (r *Row) Clone() Row { return Row{fields: slices.Clone(r.fields)} }
