package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/notifyql/notifyql"
	"github.com/notifyql/notifyql/internal/pg/migrate"
)

func (p *program) serve(ctx context.Context, args []string) error {
	var s settings
	fs := p.flags("serve", "")
	if err := p.register(fs, &s); err != nil {
		return err
	}
	if _, err := p.parse(fs, args, 0); err != nil {
		return err
	}
	c, err := p.serverConfig(&s)
	if err != nil {
		return err
	}
	if s.stream != nil {
		defer s.stream.Close() //nolint:errcheck // nobody reads it any more
	}
	if s.migrate && s.databaseURL != "" {
		if err := migrateWhenUp(ctx, s.databaseURL, c.Logger); err != nil {
			return err
		}
	}
	sendTraces, err := p.trace(ctx, &s, &c)
	if err != nil {
		return err
	}
	defer sendTraces()
	srv, err := notifyql.New(c)
	if err != nil {
		return err
	}
	encryption, err := s.encryption(srv.Logger())
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", s.addr)
	if err != nil {
		return cannotServe(s.addr, "NOTIFYQL_ADDR", err)
	}
	faces := []*face{{listener: ln, handler: routes(srv, s.adminAddr == ""), encryption: encryption}}
	if s.adminAddr != "" {
		admin, err := s.adminFace(srv, encryption)
		if err != nil {
			ln.Close() //nolint:errcheck // nothing was served
			return err
		}
		faces = append(faces, admin)
		c.Logger.Info("serving operators", "address", admin.listener.Addr().String())
	}
	c.Logger.Info("serving", "address", ln.Addr().String(), "graphql", "/graphql", "health", "/health", "encrypted", encryption != nil)
	return serveOn(ctx, srv, faces...)
}

// migrateWhenUp migrates, and waits for a database that is not there yet.
func migrateWhenUp(ctx context.Context, url string, log *slog.Logger) error {
	said := ""
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		err := migrate.Up(ctx, url)
		again := unreachable(err)
		if err = explain(err, url); !again {
			return err
		}
		if text := err.Error(); text != said {
			said = text
			log.Warn("the database can't be reached; trying again until it is there", "error", err)
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(wait):
		}
	}
}

// unreachable reports whether err is of a database that is not there yet, or is starting.
func unreachable(err error) bool {
	var failed *pgconn.ConnectError
	if !errors.As(err, &failed) {
		return false
	}
	var said *pgconn.PgError
	return !errors.As(err, &said) || said.Code == "57P03"
}

// face is what is served on an address.
type face struct {
	listener   net.Listener
	handler    http.Handler
	encryption *tls.Config // nil: none
}

// serve serves until the HTTP server is shut down.
func (f *face) serve(on *http.Server) error {
	var err error
	if f.encryption == nil {
		err = on.Serve(f.listener)
	} else {
		err = on.ServeTLS(f.listener, "", "")
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// serveOn runs the server and its HTTP faces until ctx ends.
func serveOn(ctx context.Context, srv *notifyql.Server, faces ...*face) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	servers := make([]*http.Server, len(faces))
	served := make(chan error, len(faces))
	for i, f := range faces {
		on := &http.Server{Handler: f.handler, TLSConfig: f.encryption, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}
		servers[i] = on
		go func() {
			err := f.serve(on)
			stop() // without a face there is nothing to run for
			served <- err
		}()
	}
	err := srv.Run(ctx) // closes the sockets before it returns
	closing, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	for _, on := range servers {
		if on.Shutdown(closing) != nil {
			on.Close() //nolint:errcheck // requests that did not end in time are cut off
		}
		err = errors.Join(err, <-served)
	}
	return err
}

// routes is what the public may reach; what is for operators too, if they have no address of their own.
func routes(srv *notifyql.Server, operators bool) http.Handler {
	r := chi.NewRouter()
	if operators {
		r.Mount("/", srv.OpsHandler())
	} else {
		r.Mount("/", srv.HealthHandler())
	}
	r.Mount("/graphql", srv.Handler())
	r.Get("/", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/graphql", http.StatusFound) })
	return r
}

// cannotServe says why there is nobody at an address, which a setting names.
func cannotServe(addr, setting string, err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("can't serve on %s: %w; stop what uses it, or set %s to another", addr, err, setting)
	}
	return fmt.Errorf("can't serve on %s: %w; set %s to an address of this machine, such as :8000 or 127.0.0.1:8000", addr, err, setting)
}
