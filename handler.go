package notifyql

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/go-chi/chi/v5"

	"github.com/notifyql/notifyql/internal/auth"
	"github.com/notifyql/notifyql/internal/gqlhttp"
	"github.com/notifyql/notifyql/internal/limit"
	"github.com/notifyql/notifyql/internal/sse"
	"github.com/notifyql/notifyql/internal/web"
	"github.com/notifyql/notifyql/internal/ws"
)

// Handler returns a router to mount under any path:
//
//	r.Mount("/graphql", srv.Handler())                                      // chi
//	mux.Handle("/graphql", srv.Handler())                                   // net/http
//	mux.Handle("/live", http.StripPrefix("/live", srv.Handler()))           // under another name
//
// At its root, and again at /graphql so that it can also be a server's whole handler, it takes WebSockets and requests for
// Server-Sent Events, answers queries of the schema by GET and POST, and shows GraphiQL to a browser's GET; at
// subscriptions below that, the first two only. A socket outlives its handler: what wraps the handler sees it return at once. Middleware
// may wrap the ResponseWriter, as long as that has Unwrap; a deadline of the request's context ends neither a socket nor an event
// stream.
func (s *Server) Handler() http.Handler {
	r := chi.NewRouter()
	r.Use(s.proxies.handler)
	graphiql := http.Handler(http.NotFoundHandler())
	if g := s.cfg.GraphiQL; !g.Disabled {
		graphiql = web.GraphiQL(web.Options{Query: g.Query, Payload: g.Payload})
	}
	queries := gqlhttp.New(gqlhttp.Options{
		Schema: s.schema.Load, MaxBytes: s.cfg.Limits.HTTPRequestBytes,
		Identify: func(r *http.Request) (*auth.Identity, error) {
			id, err := s.identify(r.Context(), nil, r)
			return id.inner(), err
		},
	})
	for _, root := range []string{"/", "/graphql"} {
		r.Get(root, func(w http.ResponseWriter, r *http.Request) {
			switch {
			case isUpgrade(r):
				s.serveSocket(w, r)
			case sse.Wants(r):
				s.serveEvents(w, r)
			case r.URL.Query().Has("query") || strings.Contains(r.Header.Get("Accept"), "json"):
				queries.ServeHTTP(w, r)
			default:
				graphiql.ServeHTTP(w, r)
			}
		})
		r.Post(root, func(w http.ResponseWriter, r *http.Request) {
			if sse.Wants(r) {
				s.serveEvents(w, r)
				return
			}
			queries.ServeHTTP(w, r)
		})
		r.Put(root, s.serveEvents)
		r.Delete(root, s.serveEvents)
		r.HandleFunc(strings.TrimSuffix(root, "/")+"/subscriptions", s.serveSubscriptions)
	}
	return r
}

func isUpgrade(r *http.Request) bool {
	return strings.EqualFold(r.Header.Get("Upgrade"), "websocket")
}

func (s *Server) serveSubscriptions(w http.ResponseWriter, r *http.Request) {
	switch {
	case isUpgrade(r):
		s.serveSocket(w, r)
	case sse.Wants(r):
		s.serveEvents(w, r)
	default:
		w.Header().Set("Upgrade", "websocket")
		http.Error(w, "this address takes WebSockets with the subprotocol graphql-transport-ws, and requests that accept text/event-stream", http.StatusUpgradeRequired)
	}
}

// newEvents serves Server-Sent Events with what sockets are served with; they count as sockets.
func (s *Server) newEvents() *sse.Handler {
	l := s.cfg.Limits
	return sse.New(sse.Options{
		Service: func(r *http.Request) ws.Service { return &service{s: s, r: r, protocol: "sse"} },
		Context: s.sockets.ctx,
		Enter: func(r *http.Request) (func(), error) {
			return s.sockets.leave, s.admit(r)
		},
		MaxOperations: l.Subscriptions, Exceeded: s.exceeded, MaxBytes: l.HTTPRequestBytes, Logger: s.log,
	})
}

func (s *Server) serveSocket(w http.ResponseWriter, r *http.Request) {
	o := ws.AcceptOptions{
		Origins: s.cfg.Origins, Encrypted: encrypted(r), MaxMessageBytes: s.cfg.Limits.MessageBytes, Compression: s.cfg.Compression, Subprotocols: s.subprotocols(),
	}
	if no := s.admit(r); no != nil {
		s.refuseSocket(w, r, o, no)
		return
	}
	var socket ws.Socket
	var err error
	if gone := s.work.Do(r.Context(), func() { socket, err = s.accept(w, r, o) }); gone != nil {
		err = gone
	}
	if err != nil {
		s.sockets.leave()
		s.log.Debug("a socket was not accepted", "remote", r.RemoteAddr, "error", err)
		return // accept has answered
	}
	// The handler returns, so that net/http frees what it holds for a request: two thirds of what an idle socket would cost.
	go s.runSocket(socket, s.serviceFor(r, socket), r.RemoteAddr)
}

// accept makes a socket of a handshake, or has answered it.
func (s *Server) accept(w http.ResponseWriter, r *http.Request, o ws.AcceptOptions) (ws.Socket, error) {
	if s.cfg.Upgrade == nil {
		return ws.Accept(w, r, o)
	}
	if err := o.Allow(r); err != nil {
		http.Error(w, err.Error(), http.StatusForbidden)
		return nil, err
	}
	var socket Socket
	err := s.guarded("Upgrade", func() (err error) {
		socket, err = s.cfg.Upgrade(w, r, s.Handshake())
		return err
	})
	return socket, err
}

// refuse accepts a socket to close it, or has answered it.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, o ws.AcceptOptions, no error) error {
	if s.cfg.Upgrade == nil {
		return ws.Refuse(w, r, o, no)
	}
	socket, err := s.accept(w, r, o)
	if err != nil {
		return err
	}
	e := ws.Refusal(no)
	return socket.Close(e.Code, e.Reason)
}

// serviceFor is what a socket is served with. The request's context ends with its handler; whoever looks at the request later must not
// take that for the client's end.
func (s *Server) serviceFor(r *http.Request, socket ws.Socket) *service {
	return &service{s: s, r: r.WithContext(context.WithoutCancel(r.Context())), protocol: socket.Subprotocol()}
}

// refuseSocket accepts a socket to close it, which clients understand best. It takes a while: beyond as many at once as there may
// be sockets, the handshake is refused.
func (s *Server) refuseSocket(w http.ResponseWriter, r *http.Request, o ws.AcceptOptions, no error) {
	done, ok := s.sockets.refuse()
	if !ok {
		status := http.StatusServiceUnavailable
		var over *limit.Exceeded
		if errors.As(no, &over) {
			status = over.Header(w.Header())
		} else {
			w.Header().Set("Retry-After", "1")
		}
		http.Error(w, "try again later", status)
		return
	}
	defer done()
	var err error
	if gone := s.work.Do(r.Context(), func() { err = s.refuse(w, r, o, no) }); gone != nil {
		err = gone
	}
	if err != nil {
		s.log.Debug("a socket was refused", "remote", r.RemoteAddr, "error", err)
	}
}

// exceeded is told of a subscription for which its connection has no room.
func (s *Server) exceeded() { s.bounds.perConnection.Add(1) }

// runSocket is waited for by sockets.drain.
func (s *Server) runSocket(socket ws.Socket, service *service, remote string) {
	defer s.sockets.leave()
	err := s.speak(s.sockets.ctx, socket, service)
	s.log.Debug("a socket closed", "remote", remote, "why", err)
}

func (s *Server) speak(ctx context.Context, socket ws.Socket, service *service) error {
	l := s.cfg.Limits
	if name := socket.Subprotocol(); name == legacyProtocol && !s.features[name] {
		e := &ws.CloseError{Code: ws.CodeSubprotocol, Reason: "Subprotocol not acceptable"}
		socket.Close(e.Code, e.Reason) //nolint:errcheck // there is nothing to be done about it
		return e
	}
	return ws.Serve(ctx, socket, service, ws.Options{
		InitTimeout: l.InitTimeout, KeepAlive: l.PingInterval, PongTimeout: l.PongTimeout, IdleTimeout: l.IdleTimeout,
		MaxSubscriptions: l.Subscriptions, Exceeded: s.exceeded, MessagesPerSecond: l.MessagesPerSec, Budget: s.work, Logger: s.log,
	})
}

// admit lets the client of a request open a connection, or says why it has to come back later. Who is let in leaves.
func (s *Server) admit(r *http.Request) error {
	select {
	case <-s.ready:
	default:
		return &ws.CloseError{Code: ws.CodeTryAgainLater, Reason: "The server is starting"}
	}
	if no := s.bounds.arrive(r); no != nil {
		return no
	}
	return s.sockets.enter()
}
