package gql

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"

	"github.com/notifyql/notifyql/internal/gql/validate"
)

// The codes in extensions.code.
const (
	codeParse       = "GRAPHQL_PARSE_FAILED"
	codeValidation  = "GRAPHQL_VALIDATION_FAILED"
	codeOperation   = "OPERATION_RESOLUTION_FAILURE"
	codeInput       = "BAD_USER_INPUT"
	codeLimit       = "LIMIT_EXCEEDED"
	codeUnserial    = "UNSERIALIZABLE"
	codeSchema      = "SCHEMA_CHANGED"
	codeNull        = "NULL_IN_NON_NULL"
	codeValue       = "NOT_REPRESENTABLE"
	codeResolver    = "RESOLVER_FAILED"
	codeInternal    = "INTERNAL_SERVER_ERROR"
	codeUnsupported = "OPERATION_NOT_SUPPORTED"
	codeCursor      = "CURSOR_INVALID"
	codeForbidden   = "FORBIDDEN"
)

// ErrSkip is what a resolver returns for an event that its subscriber is not to see.
var ErrSkip = errors.New("event is not for this subscriber")

type location struct {
	Line   int `json:"line"`
	Column int `json:"column"`
}

// gqlError is one GraphQL error, its JSON keys in the order the specification names them.
type gqlError struct {
	Message    string         `json:"message"`
	Locations  []location     `json:"locations,omitempty"`
	Path       []any          `json:"path,omitempty"`
	Extensions map[string]any `json:"extensions,omitempty"`
}

func (e *gqlError) Error() string { return e.Message }

// errorList is what a request comes to when it does not get as far as data.
type errorList []*gqlError

func newError(code string, pos *ast.Position, format string, args ...any) *gqlError {
	e := &gqlError{Message: fmt.Sprintf(format, args...), Extensions: map[string]any{"code": code}}
	if pos != nil {
		e.Locations = []location{locate(pos)}
	}
	return e
}

// locate counts columns in UTF-16 units, and to where a string begins, as graphql-js does.
func locate(pos *ast.Position) location {
	if pos.Src == nil {
		return location{pos.Line, pos.Column}
	}
	return location(validate.Locate(pos.Src.Input, pos.Start))
}

func oneError(code string, pos *ast.Position, format string, args ...any) errorList {
	return errorList{newError(code, pos, format, args...)}
}

// limitError says which limit a request goes beyond.
func limitError(pos *ast.Position, limit string, max int, format string, args ...any) *gqlError {
	e := newError(codeLimit, pos, format, args...)
	e.Extensions["limit"], e.Extensions["max"] = limit, max
	return e
}

// foreign takes over an error of gqlparser.
func foreign(code string, err error) *gqlError {
	var g *gqlerror.Error
	if !errors.As(err, &g) {
		return newError(code, nil, "%s", err)
	}
	e := newError(code, nil, "%s", g.Message)
	for _, l := range g.Locations {
		if l.Line > 0 {
			e.Locations = append(e.Locations, location{l.Line, l.Column})
		}
	}
	return e
}

// json is the list as a JSON array; nil for an empty one.
func (l errorList) json() []byte {
	if len(l) == 0 {
		return nil
	}
	b, err := json.Marshal(l)
	if err != nil { // strings, numbers and a map of such: they always marshal
		return []byte(`[{"message":"internal error"}]`)
	}
	return b
}

// codedError is an error of a value, with its code.
type codedError struct {
	code, message string
	limit         string // not empty: which limit it goes beyond
	max           int
}

func (e *codedError) Error() string { return e.message }

// codeOf is the code of an error of a value.
func codeOf(err error) string {
	var coded *codedError
	if errors.As(err, &coded) {
		return coded.code
	}
	return codeValue
}
