package gql

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// GraphQL names are [_A-Za-z][_0-9A-Za-z]*, and those that begin with two underscores are reserved.

func validName(s string) bool {
	if s == "" || strings.HasPrefix(s, "__") || s[0] >= '0' && s[0] <= '9' {
		return false
	}
	for i := range len(s) {
		if !nameByte(s[i]) {
			return false
		}
	}
	return true
}

func nameByte(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
}

// words splits a database name where an underscore or a character that is no letter or digit stands. A letter outside of
// ASCII becomes u and its code point in hexadecimal.
func words(s string) []string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r < utf8.RuneSelf && nameByte(byte(r)) && r != '_':
			b.WriteRune(r)
		case r >= utf8.RuneSelf && (unicode.IsLetter(r) || unicode.IsDigit(r)):
			fmt.Fprintf(&b, "u%04x", r)
		default:
			b.WriteByte('_')
		}
	}
	return strings.FieldsFunc(b.String(), func(r rune) bool { return r == '_' })
}

// pascal is a name as a type's: order_items is OrderItems. A word all in capitals keeps the first only.
func pascal(s string) string {
	var b strings.Builder
	for _, w := range words(s) {
		if len(w) > 1 && strings.ToUpper(w) == w {
			w = strings.ToLower(w)
		}
		b.WriteString(strings.ToUpper(w[:1]) + w[1:])
	}
	return leading(b.String())
}

// camel is a name as a field's: created_at is createdAt. One leading underscore stays.
func camel(s string) string {
	var b strings.Builder
	for i, w := range words(s) {
		upper := strings.ToUpper(w) == w
		switch {
		case i == 0 && upper:
			w = strings.ToLower(w)
		case i == 0:
			w = strings.ToLower(w[:1]) + w[1:]
		case upper && len(w) > 1:
			w = w[:1] + strings.ToLower(w[1:])
		default:
			w = strings.ToUpper(w[:1]) + w[1:]
		}
		b.WriteString(w)
	}
	name := b.String()
	if strings.HasPrefix(s, "_") {
		return "_" + name
	}
	return leading(name)
}

// leading makes a name of what may be empty or begin with a digit.
func leading(s string) string {
	if s == "" || s[0] >= '0' && s[0] <= '9' {
		return "_" + s
	}
	return s
}

// enumName is a label as an enum value's name: itself where it can be.
func enumName(label string) string {
	if validName(label) && label != "true" && label != "false" && label != "null" {
		return label
	}
	name := leading(strings.Join(words(label), "_"))
	switch name {
	case "true", "false", "null":
		return name + "_"
	}
	return name
}

// namer hands out names, each once.
type namer map[string]bool

// free returns base, or base_2, base_3 … : the first for which all of derive's names are free, and takes them.
func (n namer) free(base string, derive func(string) []string) string {
	for i := 1; ; i++ {
		name := base
		if i > 1 {
			name = fmt.Sprintf("%s_%d", base, i)
		}
		taken := false
		for _, d := range derive(name) {
			taken = taken || n[d]
		}
		if taken {
			continue
		}
		for _, d := range derive(name) {
			n[d] = true
		}
		return name
	}
}

func itself(s string) []string { return []string{s} }
