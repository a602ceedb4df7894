package notifyql

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/notifyql/notifyql/internal/feed"
	"github.com/notifyql/notifyql/internal/problems"
)

// Stats is what a Server holds and has done so far.
type Stats struct {
	Ready         bool // changes flow, or have flowed: subscriptions can begin
	Listening     bool // changes come now
	Relayed       bool // they come through a broker; where one is configured and they do not, the server reads the change log itself
	Draining      bool
	ReadOnly      bool
	Connections   int
	Opened        int64            // sockets and event streams so far
	Users         int              // with a connection
	Tenants       int              // of them
	Refused       map[string]int64 // how often each limit has refused, by its name in docs/graphql.md
	Buckets       int              // users, tenants and addresses that the limits of rates tell apart now
	Subscriptions int
	Groups        int   // of subscriptions equal in all but their client
	TailBytes     int64 // of transactions in memory
	Matched       int64 // changes that concerned a group
	Delivered     int64 // results handed to subscribers
	Overflowed    int64 // times that a subscription fell too far behind, and went on from the log
	CatchingUp    int   // subscriptions that wait to
	PagesRead     int64 // of the log, for those
	RowsRead      int64 // of tables, for subscriptions that begin with what stands

	Busy   bool // writers may be silent: changes come by reading the log, not in notifications
	Leader bool // this server says which of the two it is, and reads the database for all if there is a broker

	RelaySessions int64 // times that this server began to read the database for all

	Dispatched int64 // changes handed on
	Duplicates int64 // changes that came twice and were handed on once
	Anomalies  int64 // transactions that nobody had notified
	Sweeps     int64 // reads of the log
	Deserted   int64 // times that it was found out, not announced, that writers may be silent: the leader had died
}

// Stats returns the present figures.
func (s *Server) Stats() Stats {
	h := s.hub.Stats()
	f := s.feedStats()
	st := Stats{
		Listening: s.connected.Load(), Subscriptions: h.Readers, Groups: h.Groups, TailBytes: h.TailBytes,
		Matched: h.Matched, Delivered: h.Delivered, Overflowed: h.Overflowed,
		CatchingUp: h.Joining, PagesRead: h.PagesRead, RowsRead: h.RowsRead,
		Dispatched: int64(f.Changes), Duplicates: int64(f.Duplicates), Anomalies: int64(f.Anomalies), Sweeps: int64(f.Sweeps), Busy: f.Mode == feed.Busy, Deserted: int64(f.Deserted),
	}
	st.ReadOnly = s.ReadOnly()
	st.Refused = map[string]int64{}
	st.Connections, st.Opened, st.Refused["connections"], st.Draining = s.sockets.stats()
	s.bounds.refused(st.Refused)
	st.Users, st.Tenants, st.Buckets = s.bounds.userConnections.Keys(), s.bounds.tenantConnections.Keys(), s.bounds.buckets()
	if s.database != nil {
		db := s.database.Status()
		st.Leader = db.Leader
		if s.relay != nil { // changes come one way or the other
			st.Listening, st.Relayed, st.RelaySessions = db.Listening, s.relay.Following(), s.relay.Sessions()
		}
	}
	select {
	case <-s.ready:
		st.Ready = true
	default:
	}
	return st
}

func (s *Server) feedStats() feed.Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.machine.Stats()
}

// HealthHandler returns a router for whoever watches the server from outside: /health and /livez, as OpsHandler has them.
func (s *Server) HealthHandler() http.Handler {
	r := chi.NewRouter()
	r.Get("/health", s.serveHealth)
	r.Get("/livez", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	return r
}

// OpsHandler returns a router for operators: /health (200 if the server is ready and connected, else 503, with the
// reason), /livez (200 while the process lives), /metrics (for Prometheus) and /errors (recent problems by kind, with
// counts and rates, and no secrets). Do not show it to the public.
func (s *Server) OpsHandler() http.Handler {
	r := chi.NewRouter()
	registry := prometheus.NewRegistry()
	registry.MustRegister(&collector{s})
	r.Mount("/", s.HealthHandler())
	r.Method(http.MethodGet, "/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	r.Get("/errors", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, struct {
			Errors []problems.Kind `json:"errors"`
		}{s.problems.List()})
	})
	return r
}

// Health is what /health answers.
type Health struct {
	Version   string    `json:"version"`
	Status    string    `json:"status"` // ready, starting, disconnected or draining
	Listening bool      `json:"listening"`
	Since     time.Time `json:"since,omitzero"` // of listening, or of not listening
	Mode      string    `json:"mode"`           // quiet or busy
	// LagMillis is the longest time, of the last 10 to 20 s, from when a transaction's last change was written, by the database's
	// clock, to when it was handed on to the subscriptions, in milliseconds; 0 if nothing was.
	LagMillis float64           `json:"lagMs"`
	Leader    bool              `json:"leader"`  // this server says which
	Bus       string            `json:"bus"`     // postgres, memory, or the broker's stream
	Relayed   bool              `json:"relayed"` // changes come through the broker
	ReadOnly  bool              `json:"readOnly"`
	Features  []string          `json:"features"` // that are on
	Problems  map[string]string `json:"problems,omitempty"`
	Sockets   int               `json:"connections"`
	Streams   int               `json:"subscriptions"`
}

// Health says whether the server is fit to take clients, and why not.
func (s *Server) Health() Health {
	st := s.Stats()
	h := Health{Version: version, Status: "ready", Listening: st.Listening, Mode: string(ModeQuiet), Leader: st.Leader, ReadOnly: st.ReadOnly, Features: s.featuresOn(), LagMillis: float64(s.handed.recent(time.Now())) / 1e3, Bus: s.cfg.Bus.String(), Relayed: st.Relayed, Sockets: st.Connections, Streams: st.Subscriptions}
	if st.Busy {
		h.Mode = string(ModeBusy)
	}
	if s.database != nil {
		db := s.database.Status()
		h.Since, h.Listening = db.Since, db.Listening
		for part, why := range db.Problems {
			if h.Problems == nil {
				h.Problems = map[string]string{}
			}
			h.Problems[part] = problems.Redact(why)
		}
	}
	switch {
	case st.Draining:
		h.Status = "draining"
	case !st.Ready:
		h.Status = "starting"
	case !st.Listening:
		h.Status = "disconnected"
	}
	return h
}

func (s *Server) serveHealth(w http.ResponseWriter, _ *http.Request) {
	h := s.Health()
	status := http.StatusOK
	if h.Status != "ready" {
		status = http.StatusServiceUnavailable
	}
	writeJSON(w, status, h)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v) //nolint:errcheck // a client that is gone
}
