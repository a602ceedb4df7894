package ws

import (
	"bytes"
	"encoding/json"
	"errors"
	"unicode/utf8"
)

// message is what a client sent, checked for its form: the fields that its type asks for are there and of their type.
type message struct {
	typ     string
	id      string // never empty where the type asks for one
	rawID   []byte // as the client wrote it: what goes back is, character for character, what came
	payload []byte // a JSON object or nil
	op      Operation
	bad     *CloseError // not nil: the message is none of the protocol's, and how to say so
}

// parse checks text with a protocol's own check.
func parse(text []byte, check func([]byte) (message, string)) message {
	if !utf8.Valid(text) {
		return message{bad: closing(CodeInvalidText, "Text is not UTF-8")}
	}
	m, problem := check(text)
	if problem != "" {
		m.bad = closing(CodeBadRequest, "Invalid message received: %s", problem)
	}
	return m
}

// maxIDBytes bounds what is kept for each subscription and repeated in each of its messages.
const maxIDBytes = 1024

// object is a JSON object's members. Names are case-sensitive and of equal ones the last counts, as in JavaScript;
// decoding into a struct would do neither.
type object map[string]json.RawMessage

func parseObject(text []byte) (object, string) {
	var o object
	if !json.Valid(text) {
		return nil, "not JSON"
	}
	if kind := kindOf(text); kind != "object" {
		return nil, "expected an object, got " + kind
	}
	if err := json.Unmarshal(text, &o); err != nil {
		return nil, "not JSON"
	}
	return o, ""
}

// kindOf names a JSON value's type as JavaScript's users know it; empty text is a missing value.
func kindOf(value []byte) string {
	value = bytes.TrimLeft(value, " \t\r\n")
	if len(value) == 0 {
		return "nothing"
	}
	switch value[0] {
	case '{':
		return "object"
	case '[':
		return "array"
	case '"':
		return "string"
	case 't', 'f':
		return "boolean"
	case 'n':
		return "null"
	}
	return "number"
}

// text returns a member that must be a string; a null or missing one is allowed if optional.
func (o object) text(name string, optional bool) (s, problem string) {
	switch kind := kindOf(o[name]); {
	case kind == "string":
		if err := json.Unmarshal(o[name], &s); err != nil {
			return "", "'" + name + "' is not a string"
		}
		return s, ""
	case optional && (kind == "null" || kind == "nothing"):
		return "", ""
	default:
		return "", "'" + name + "' must be a string, got " + kind
	}
}

// object returns a member that must be an object, null or missing; nil for the latter two.
func (o object) object(name string) (raw []byte, problem string) {
	switch kind := kindOf(o[name]); kind {
	case "object":
		return o[name], ""
	case "null", "nothing":
		return nil, ""
	default:
		return nil, "'" + name + "' must be an object, got " + kind
	}
}

// id reads a message's id into m.
func (o object) id(m *message) (problem string) {
	if m.id, problem = o.text("id", false); problem != "" {
		return problem
	}
	if m.id == "" {
		return "'id' must not be empty"
	}
	m.rawID = bytes.TrimSpace(o["id"])
	if len(m.rawID) > maxIDBytes {
		return "'id' is longer than 1024 bytes"
	}
	// Lone surrogates can be written in JSON and not in UTF-8: ids that differ in nothing else stay apart.
	if bytes.Contains(m.rawID, []byte(`\u`)) && bytes.ContainsRune([]byte(m.id), utf8.RuneError) {
		m.id = string(m.rawID)
	}
	return ""
}

// operation reads a request.
func (o object) operation() (op Operation, problem string) {
	if op.Query, problem = o.text("query", false); problem != "" {
		return op, problem
	}
	if op.OperationName, problem = o.text("operationName", true); problem != "" {
		return op, problem
	}
	if op.Variables, problem = o.object("variables"); problem != "" {
		return op, problem
	}
	op.Extensions, problem = o.object("extensions")
	return op, problem
}

// ParseOperation reads a request that came as JSON by another way than a socket.
func ParseOperation(text []byte) (Operation, error) {
	if !utf8.Valid(text) {
		return Operation{}, errors.New("the request is not UTF-8")
	}
	o, problem := parseObject(text)
	var op Operation
	if problem == "" {
		op, problem = o.operation()
	}
	if problem != "" {
		return Operation{}, errors.New("the request is no GraphQL request: " + problem)
	}
	return op, nil
}
