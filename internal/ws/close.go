package ws

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/notifyql/notifyql/internal/limit"
	"github.com/notifyql/notifyql/socket"
)

// The close codes that this package gives. docs/protocol.md says what clients make of each.
const (
	CodeNormal          = 1000
	CodeGoingAway       = 1001
	CodeProtocolError   = 1002
	CodeUnsupportedData = 1003
	CodeAbnormal        = 1006 // never sent: the connection ended without a close frame
	CodeInvalidText     = 1007
	CodePolicy          = 1008 // ended for good, by an operator
	CodeTooBig          = 1009
	CodeRestart         = 1012
	CodeTryAgainLater   = 1013
	CodeTimeout         = 3008 // registered for timeouts; what has no number of its own in the protocol
	CodeBadRequest      = 4400
	CodeUnauthorized    = 4401
	CodeForbidden       = 4403
	CodeSubprotocol     = 4406
	CodeInitTimeout     = 4408
	CodeDuplicate       = 4409
	CodeTooManyInits    = 4429
	CodeInternal        = 4500
)

// CloseError is why a connection ended: what the peer was told, or has told. As the cause of the context given to Serve
// it says how to close the connection; as the error of Connect, how to refuse it.
type CloseError = socket.CloseError

// Restarting is the cause for a context that ends because this server restarts: clients reconnect and go on.
func Restarting() *CloseError { return &CloseError{Code: CodeRestart, Reason: "Service restart"} }

// closeFor is how to close a connection that err refuses: as a *CloseError says; over a *limit.Exceeded so that the client
// comes back, after a while. Nil: err says nothing of it.
func closeFor(err error) *CloseError {
	var why *CloseError
	var over *limit.Exceeded
	switch {
	case errors.As(err, &why):
		return why
	case errors.As(err, &over):
		return closing(CodeTryAgainLater, "%s", over.Error())
	}
	return nil
}

// Refusal is how to close a socket whose client is refused: as closeFor says, or else as forbidden.
func Refusal(err error) *CloseError {
	if e := closeFor(err); e != nil {
		return e
	}
	return &CloseError{Code: CodeForbidden, Reason: "Forbidden"}
}

func closing(code int, format string, args ...any) *CloseError {
	return &CloseError{Code: code, Reason: truncate(fmt.Sprintf(format, args...), maxReason)}
}

// maxReason is what a close frame holds beside its code.
const maxReason = 123

// truncate cuts s to at most n bytes, between characters, and marks the cut.
func truncate(s string, n int) string {
	if len(s) <= n {
		return s
	}
	const mark = "…"
	n -= len(mark)
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + mark
}
