package notifyql

import (
	"net/http"
	"net/url"
	"strconv"

	"github.com/go-chi/chi/v5"
)

// AdminHandler returns a router for operators: what OpsHandler has, and below /admin the clients that are connected, to be looked at
// and ended. Whoever reaches it may do that: keep it where only operators are, or put a check before it.
//
//	GET    /admin/connections?user=&tenant=&table=&after=&limit=    a page of Connections
//	DELETE /admin/connections/{id}?reason=&forGood=true             Disconnect
//	DELETE /admin/connections/{id}/subscriptions/{id}?reason=       EndSubscription
//	DELETE /admin/users/{id}?reason=&forGood=true                   Disconnect, all of a user's
//	DELETE /admin/tenants/{id}?reason=&forGood=true                 Disconnect, all of a tenant's
//	PUT    /admin/read-only                                         SetReadOnly(true); DELETE ends it
//
// A page of a browser of another origin can change nothing, whatever it sends along.
func (s *Server) AdminHandler() http.Handler {
	r := chi.NewRouter()
	r.Use(http.NewCrossOriginProtection().Handler)
	r.Mount("/", s.OpsHandler())
	r.Get("/admin/connections", s.listConnections)
	r.Delete("/admin/connections/{id}", func(w http.ResponseWriter, r *http.Request) {
		s.disconnectBy(w, r, ConnectionFilter{ID: pathParam(r, "id")}, true)
	})
	r.Delete("/admin/connections/{id}/subscriptions/{subscription}", func(w http.ResponseWriter, r *http.Request) {
		if !s.EndSubscription(pathParam(r, "id"), pathParam(r, "subscription"), r.URL.Query().Get("reason")) {
			answerEnded(w, 0, true)
			return
		}
		answerEnded(w, 1, true)
	})
	r.Delete("/admin/users/{id}", func(w http.ResponseWriter, r *http.Request) {
		s.disconnectBy(w, r, ConnectionFilter{UserID: pathParam(r, "id")}, false)
	})
	r.Delete("/admin/tenants/{id}", func(w http.ResponseWriter, r *http.Request) {
		s.disconnectBy(w, r, ConnectionFilter{Tenant: pathParam(r, "id")}, false)
	})
	r.Put("/admin/read-only", s.switchReadOnly(true))
	r.Delete("/admin/read-only", s.switchReadOnly(false))
	return r
}

// pathParam is a part of the path, decoded. chi gives it as it came if the path can be written in several ways.
func pathParam(r *http.Request, name string) string {
	text := chi.URLParam(r, name)
	if r.URL.RawPath == "" {
		return text
	}
	if decoded, err := url.PathUnescape(text); err == nil {
		return decoded
	}
	return text
}

func (s *Server) listConnections(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	p := Page{After: q.Get("after"), Limit: 100}
	if text := q.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > 1000 {
			writeJSON(w, http.StatusBadRequest, map[string]string{"error": "limit must be a number from 1 to 1000"})
			return
		}
		p.Limit = n
	}
	list := s.Connections(ConnectionFilter{UserID: q.Get("user"), Tenant: q.Get("tenant"), Table: q.Get("table")}, p)
	answer := struct {
		Connections []ConnectionInfo `json:"connections"`
		Next        string           `json:"next,omitempty"` // the after of the next page
	}{Connections: list}
	if len(list) == p.Limit {
		answer.Next = list[len(list)-1].ID
	}
	writeJSON(w, http.StatusOK, answer)
}

// disconnectBy does what a request wants with the connections of f. A name in the path is not empty: chi takes that for another path.
func (s *Server) disconnectBy(w http.ResponseWriter, r *http.Request, f ConnectionFilter, one bool) {
	q := r.URL.Query()
	forGood := false
	if text := q.Get("forGood"); text != "" {
		var err error
		if forGood, err = strconv.ParseBool(text); err != nil {
			writeJSON(w, http.StatusBadRequest, map[string]string{"error": "forGood must be true or false"})
			return
		}
	}
	answerEnded(w, s.Disconnect(f, End{Reason: q.Get("reason"), ForGood: forGood}), one)
}

// answerEnded says how many were ended; where one was meant, none is not found.
func answerEnded(w http.ResponseWriter, n int, one bool) {
	status := http.StatusOK
	if one && n == 0 {
		status = http.StatusNotFound
	}
	writeJSON(w, status, map[string]int{"ended": n})
}
