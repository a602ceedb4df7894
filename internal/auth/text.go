package auth

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"unicode/utf8"
)

// decode reads one JSON value. Numbers stay text: an id of more than 15 digits must not be rounded to another's.
func decode(text []byte) (any, error) {
	if !utf8.Valid(text) { // a byte that is replaced could make two tenants one
		return nil, errors.New("not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, errors.New("not JSON")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one JSON value")
	}
	return v, nil
}

// textOf is a string, or a whole number as text. ok is false for anything else.
func textOf(v any) (text string, ok bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case json.Number:
		return v.String(), !strings.ContainsAny(v.String(), ".eE")
	}
	return "", false
}

// textsOf is a list of texts, or one alone. Nil is none.
func textsOf(v any) (texts []string, ok bool) {
	switch v := v.(type) {
	case nil:
		return nil, true
	case []any:
		for _, one := range v {
			text, ok := textOf(one)
			if !ok {
				return nil, false
			}
			texts = append(texts, text)
		}
		return texts, true
	}
	text, ok := textOf(v)
	return []string{text}, ok
}
