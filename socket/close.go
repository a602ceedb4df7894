package socket

import "fmt"

// CloseError is how a WebSocket was closed, by either side.
type CloseError struct {
	Code   int
	Reason string // at most 123 bytes
}

func (e *CloseError) Error() string {
	if e.Reason == "" {
		return fmt.Sprintf("websocket closed: %d", e.Code)
	}
	return fmt.Sprintf("websocket closed: %d %s", e.Code, e.Reason)
}
