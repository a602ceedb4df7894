package sse

import (
	"bytes"
	"encoding/json"
	"strings"
)

// heartbeat is a comment, which clients skip.
const heartbeat = ":\n\n"

var internalError = []byte(`[{"message":"Internal server error","extensions":{"code":"INTERNAL_SERVER_ERROR"}}]`)

// Identified is a ws.Stream whose results can be resumed behind: the client's browser sends the EventID of the last one as
// Last-Event-ID when it connects again, and it comes back as Operation.After. An empty one says nothing.
type Identified interface {
	EventID(result []byte) string
}

// appendID appends the id of the event that follows, if it has one.
func appendID(b []byte, id string) []byte {
	if id == "" || strings.ContainsAny(id, "\r\n\x00") {
		return b
	}
	return append(append(append(b, "id: "...), id...), '\n')
}

// appendNext appends a result. On a reserved connection it carries the operation's id.
func (c *conn) appendNext(b []byte, id string, result []byte) []byte {
	b = append(b, "event: next\ndata: "...)
	if c.single {
		b = append(append(append(b, `{"id":`...), quote(id)...), `,"payload":`...)
	}
	from := len(b)
	b = append(b, result...)
	// JSON may have line ends between its tokens, and only there. Here they would end the data.
	for i := from; i < len(b); i++ {
		if b[i] == '\n' || b[i] == '\r' {
			b[i] = ' '
		}
	}
	if c.single {
		b = append(b, '}')
	}
	return append(b, "\n\n"...)
}

// appendComplete appends an operation's end. Its data is empty rather than missing, or browsers would not tell the page.
func (c *conn) appendComplete(b []byte, id string) []byte {
	b = append(b, "event: complete\ndata:"...)
	if c.single {
		b = append(append(append(b, ` {"id":`...), quote(id)...), '}')
	}
	return append(b, "\n\n"...)
}

func quote(s string) []byte {
	b, err := json.Marshal(s)
	if err != nil {
		return []byte(`""`)
	}
	return b
}

// errorResult is an ExecutionResult that has a list of errors only.
func errorResult(errors []byte) []byte {
	return append(append([]byte(`{"errors":`), bytes.TrimSpace(errors)...), '}')
}

// codedError is a list of one error that has a code.
func codedError(code, text string) []byte {
	b := append(append([]byte(`[{"message":`), quote(text)...), `,"extensions":{"code":`...)
	return append(append(b, quote(code)...), `}}]`...)
}

// errorList is a list of one error.
func errorList(text string) []byte {
	return append(append([]byte(`[{"message":`), quote(text)...), `}]`...)
}
