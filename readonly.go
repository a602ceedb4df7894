package notifyql

import (
	"errors"
	"net/http"
)

// ErrReadOnly is what errors of a server that is read-only wrap.
var ErrReadOnly = errors.New("the server is read-only")

// SetReadOnly makes a server read-only, or ends that, from now on: Publish is refused with ErrReadOnly. Subscriptions live on, begin,
// resume and read rows as ever, and what others write arrives; what the server writes for its own upkeep goes on, too: ticks, the mode,
// turning the log. What is being published when it is called may still arrive. PublishTx is not the server's, and is not refused.
func (s *Server) SetReadOnly(readOnly bool) {
	if s.readOnly.Swap(readOnly) != readOnly {
		s.log.Warn("the server is switched", "readOnly", readOnly)
	}
}

// ReadOnly reports whether the server is read-only.
func (s *Server) ReadOnly() bool { return s.readOnly.Load() }

// switchReadOnly is PUT and DELETE of /admin/read-only.
func (s *Server) switchReadOnly(readOnly bool) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		s.SetReadOnly(readOnly)
		writeJSON(w, http.StatusOK, map[string]bool{"readOnly": readOnly})
	}
}
