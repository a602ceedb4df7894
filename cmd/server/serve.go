package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
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
	if s.migrate && s.databaseURL != "" {
		if err := migrateWhenUp(ctx, s.databaseURL, c.Logger); err != nil {
			return err
		}
	}
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
		return fmt.Errorf("can't serve on %s: %w; stop what uses it, or set NOTIFYQL_ADDR", s.addr, err)
	}
	c.Logger.Info("serving", "address", ln.Addr().String(), "graphql", "/graphql", "health", "/health", "encrypted", encryption != nil)
	return serveOn(ctx, srv, ln, encryption)
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

// serveOn runs the server and its HTTP face until ctx ends; unencrypted if encryption is nil.
func serveOn(ctx context.Context, srv *notifyql.Server, ln net.Listener, encryption *tls.Config) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	face := &http.Server{
		Handler: routes(srv), TLSConfig: encryption, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
	}
	served := make(chan error, 1)
	go func() {
		var err error
		if encryption == nil {
			err = face.Serve(ln)
		} else {
			err = face.ServeTLS(ln, "", "")
		}
		if errors.Is(err, http.ErrServerClosed) {
			err = nil
		}
		stop() // without a face there is nothing to run for
		served <- err
	}()
	err := srv.Run(ctx) // closes the sockets before it returns
	closing, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if face.Shutdown(closing) != nil {
		face.Close() //nolint:errcheck // requests that did not end in time are cut off
	}
	return errors.Join(err, <-served)
}

func routes(srv *notifyql.Server) http.Handler {
	r := chi.NewRouter()
	r.Mount("/", srv.OpsHandler())
	r.Mount("/graphql", srv.Handler())
	r.Get("/", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/graphql", http.StatusFound) })
	return r
}
